"""The training budget of a contender: the updates that FLOPs, images or seconds pay for."""

import json
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from vilg.config import require
from vilg.experiment import Experiment
from vilg.parallel.layouts import parse_layout
from vilg.program import Program

BUDGETS = ("flops", "images", "seconds")

TOLERANCE = 0.01  # the training FLOPs of a run may differ from the budget by this share


def steps_within(experiment: Experiment, budget: str, times: Path, name: str) -> int:
    """The number of updates that the budget pays for, after the experiments before this one
    (Experiment.first) are subtracted; without a budget, training.steps of the config.

    `times` is the file that stores the measured seconds of an update. Errors: UserError for a
    budget that cannot be parsed, pays for no update, or cannot be met within TOLERANCE."""
    if not budget:
        return experiment.training.steps
    kind, _, text = budget.partition(":")
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    fits = kind in BUDGETS and 0 < amount < math.inf
    require(
        fits,
        "budget",
        budget,
        f"must be KIND:AMOUNT with a kind of {', '.join(BUDGETS)}, such as flops:3e13",
    )
    program = Program(experiment, jax.devices()[:1], layout=parse_layout("dp"))
    if kind == "seconds":
        steps = round(amount / timed(program, times, name))
    else:
        each = program.update_flops if kind == "flops" else experiment.training.batch_size
        steps = round((amount - spent(experiment.first, kind)) / each)
    require(steps > 0, "budget", budget, f"is too little for an update of {name}; give more")
    if kind == "flops" and experiment.first is None:
        share = steps * program.update_flops / amount
        require(
            abs(share - 1) <= TOLERANCE,
            "budget",
            budget,
            f"can be met by {name} to {share:.3f} only, since updates are whole; give more",
        )
    return steps


def spent(experiment: Experiment | None, kind: str) -> float:
    """The FLOPs or images of an experiment's training, together with the experiments before it."""
    if experiment is None:
        return 0.0
    program = Program(experiment, jax.devices()[:1], layout=parse_layout("dp"))
    each = program.update_flops if kind == "flops" else experiment.training.batch_size
    return each * experiment.training.steps + spent(experiment.first, kind)


def timed(program: Program, times: Path, name: str) -> float:
    """Seconds of an update on this machine, without the loading of data: the median of five,
    measured once and stored in the file `times`."""
    stored = json.loads(times.read_text()) if times.is_file() else {}
    if name not in stored:
        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), (program.batch_shapes(), program.frozen_shapes())
        )
        state, seconds = program.init_state(), []
        for _ in range(7):
            began = time.monotonic()
            state, _ = jax.block_until_ready(program.train_step(state, *zeros))
            seconds.append(time.monotonic() - began)
        stored[name] = sorted(seconds[2:])[2]
        times.parent.mkdir(parents=True, exist_ok=True)
        times.write_text(json.dumps(stored))
    return stored[name]
