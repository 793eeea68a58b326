"""The programs that `vilg plan` compiles, each lowered for abstract arguments: nothing is
allocated, and no device has to be in this machine.

Separate from Program, which compiles what runs: here shapes stand for arrays, and each program
comes with its model FLOPs and with what one run of it produces."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from vilg.config import require
from vilg.program import Program
from vilg.stepwise_program import StepwiseProgram
from vilg.types import Generator, Params, Stepwise


@dataclasses.dataclass(frozen=True)
class PlannedProgram:
    """A program to compile: `lower` gives it.

    `model_flops` are those of one run on all devices; `images` and `tokens` count what one run
    makes or reads (tokens: None where there are none). `params` and `other_state` are the arguments
    that hold parameters, and optimizer state, averages and statistics, as abstract arrays with
    shardings."""

    lower: Callable[[], jax.stages.Lowered]
    model_flops: float
    images: float
    tokens: float | None
    params: Params
    other_state: Any = None


def train(program: Program) -> PlannedProgram:
    """One update: optimizer, moving average, accumulation, rematerialisation and donation
    included.
    """
    experiment = program.experiment
    rows, tokens = experiment.training.batch_size, None
    if experiment.model.reads_codes:
        tokens = float(
            rows * (experiment.data.text.length + math.prod(experiment.image_codec.grid))
        )
    state = program.abstract_state
    return PlannedProgram(
        lower=lambda: lower_train_step(program),
        model_flops=program.model_flops,
        images=float(rows),
        tokens=tokens,
        params=state.params,
        other_state=(state.optimizer, state.ema, state.statistics),
    )


def sample(program: Program) -> PlannedProgram:
    """Sampling of a batch of training's size with the generator's own options.

    For a Stepwise generator the program is one evaluation of the denoiser, which makes one picture
    divided by the number of evaluations; for another generator it is the whole sampler. Model FLOPs
    are those of its matrix products and convolutions as traced."""
    experiment = program.experiment
    generator: Any = experiment.model
    require(
        isinstance(generator, Generator),
        "program",
        "sample",
        "needs an experiment with a generator; a codec and a ranker sample nothing",
    )
    rows = experiment.training.batch_size
    require(
        rows % program.batch_shards == 0,
        "batch",
        rows,
        f"must be a multiple of {program.batch_shards}, the devices that share a batch",
    )
    text = jax.ShapeDtypeStruct(
        (rows, experiment.data.text.length), jnp.int32, sharding=program.batch_sharding
    )
    keys = with_sharding(
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows)), program.batch_sharding
    )
    if isinstance(generator, Stepwise):
        return _evaluation(program, generator, text, keys)
    params, controls = program.abstract_state.params, experiment.controls
    return PlannedProgram(
        lower=lambda: program.call("sample", controls).lower(params, text, keys),
        model_flops=program.flops(
            lambda p, t, k: generator.sample(p, t, k, controls), params, text, keys
        ),
        images=float(rows),
        tokens=float(rows * math.prod(experiment.image_codec.grid)),
        params=params,
    )


def _evaluation(
    program: Program, generator: Stepwise, text: jax.ShapeDtypeStruct, keys: jax.ShapeDtypeStruct
) -> PlannedProgram:
    """One evaluation of a Stepwise generator."""
    params, controls = program.abstract_state.params, program.experiment.controls
    stepwise = StepwiseProgram(program)
    schedule = generator.sampling_schedule(controls)
    state = with_sharding(
        jax.eval_shape(
            lambda p, t, k: generator.begin(p, {"text": t}, k, controls),
            jax.eval_shape(generator.shared_params, params),
            text,
            keys,
        ),
        program.batch_sharding,
    )
    weights = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(lambda p: generator.expert_params(p, 0), params),
        stepwise.expert_sharding,
    )
    row = {k: jax.ShapeDtypeStruct(v.shape[1:], jnp.float32) for k, v in schedule.rows.items()}
    index = jax.ShapeDtypeStruct((), jnp.int32)
    row, index = with_sharding((row, index), program.replicated)
    arguments = (weights, state, row, index, keys)
    return PlannedProgram(
        lower=lambda: stepwise.advance.lower(*arguments),
        model_flops=program.flops(generator.advance, *arguments),
        images=text.shape[0] / len(schedule.times),
        tokens=None,
        params=weights,
    )


PROGRAMS: dict[str, Callable[[Program], PlannedProgram]] = {"train": train, "sample": sample}


def lower_train_step(program: Program) -> jax.stages.Lowered:
    """The train step, lowered for abstract arguments."""
    batch = with_sharding(program.batch_shapes(), program.batch_sharding)
    frozen = with_sharding(program.frozen_shapes(), program.replicated)
    return program.train_step.lower(program.abstract_state, batch, frozen)


def with_sharding(shapes: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
    """A pytree of abstract arrays, all with one sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
