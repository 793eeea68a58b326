"""The programs that a plan may ask for, each lowered for abstract arguments: nothing is allocated,
and no device has to be there.

Separate from the Program, which compiles what runs: here are shapes instead of arrays, and what a
run of the program is worth."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vilg.config import require
from vilg.program import Program
from vilg.stepwise_program import StepwiseProgram
from vilg.types import Generator, Stepwise


@dataclasses.dataclass(frozen=True)
class Planned:
    """`lower` gives what is compiled; `model_flops` are those of one run of it on all devices;
    `images` and `tokens` what it makes or reads (tokens None where there are none); `params` and
    `beside` are its arguments that are parameters, and optimizer and averages, with shardings."""

    lower: Callable[[], Any]
    model_flops: float
    images: float
    tokens: float | None
    params: Any
    beside: Any = None


def train(program: Program) -> Planned:
    """An update: optimizer, moving average, accumulation, rematerialisation and donation
    included.
    """
    experiment, rows = program.experiment, program.experiment.training.batch_size
    length = (
        experiment.data.text.length + math.prod(experiment.image_codec.grid)
        if experiment.model.reads_codes
        else 0
    )
    state = program.abstract_state
    tokens = float(rows * length) if length else None
    return Planned(
        lambda: lower_train_step(program),
        program.model_flops,
        float(rows),
        tokens,
        state.params,
        (state.optimizer, state.ema, state.statistics),
    )


def sample(program: Program) -> Planned:
    """Sampling with the generator's own options, a batch of training's size at once: of a Stepwise
    generator one evaluation of the denoiser, whose share of a picture is one over the evaluations;
    of another the whole sampler. Model FLOPs are those of its matrix products and convolutions as
    traced."""
    experiment = program.experiment
    generator: Any = experiment.model
    require(
        isinstance(generator, Generator),
        "program",
        "sample",
        "needs an experiment with a generator; a codec and a ranker sample nothing",
    )
    rows, controls = experiment.training.batch_size, experiment.controls
    require(
        rows % program.batch_shards == 0,
        "batch",
        rows,
        f"must be a multiple of {program.batch_shards}, the devices that share a batch",
    )
    text = jax.ShapeDtypeStruct(
        (rows, experiment.data.text.length), jnp.int32, sharding=program.batch_sharding
    )
    keys = placed(
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows)), program.batch_sharding
    )
    params = program.abstract_state.params
    if not isinstance(generator, Stepwise):
        flops = program.flops(
            lambda p, t, k: generator.sample(p, t, k, controls), params, text, keys
        )
        tokens = float(rows * math.prod(experiment.image_codec.grid))
        return Planned(
            lambda: program.call("sample", controls).lower(params, text, keys),
            flops,
            float(rows),
            tokens,
            params,
        )
    stepwise = StepwiseProgram(program)
    plan = generator.sampling_schedule(controls)
    shared = jax.eval_shape(generator.shared_params, params)
    state = placed(
        jax.eval_shape(
            lambda p, t, k: generator.begin(p, {"text": t}, k, controls), shared, text, keys
        ),
        program.batch_sharding,
    )
    expert = jax.eval_shape(lambda p: generator.expert_params(p, 0), params)
    weights = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        expert,
        stepwise.expert_sharding,
    )
    row = {
        k: jax.ShapeDtypeStruct(v.shape[1:], jnp.float32, sharding=program.replicated)
        for k, v in plan.rows.items()
    }
    given = (
        weights,
        state,
        row,
        jax.ShapeDtypeStruct((), jnp.int32, sharding=program.replicated),
        keys,
    )
    return Planned(
        lambda: stepwise.advance.lower(*given),
        program.flops(generator.advance, *given),
        rows / len(plan.times),
        None,
        weights,
    )


PROGRAMS: dict[str, Callable[[Program], Planned]] = {"train": train, "sample": sample}


def lower_train_step(program: Program) -> Any:
    """The train step for abstract arguments."""
    batch, frozen = (
        placed(program.batch_shapes(), program.batch_sharding),
        placed(program.frozen_shapes(), program.replicated),
    )
    return program.train_step.lower(program.abstract_state, batch, frozen)


def placed(shapes: Any, sharding: Any) -> Any:
    """The shapes with one sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
