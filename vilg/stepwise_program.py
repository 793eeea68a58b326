"""The programs of a generator that samples step by step. One evaluation of the denoiser is one
compiled program, which a loop on the host calls.

The file is separate from program.py, whose programs are whole methods of a model. One compiled
evaluation serves every sampler, every number of steps, every weight of guidance, and every expert
of a mixture."""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from vilg.parallel.axes import is_box
from vilg.parallel.mesh import resolver
from vilg.program import Program
from vilg.types import Stepwise


class StepwiseProgram:
    """The methods of a Stepwise generator, compiled under a Program's layout."""

    def __init__(self, program: Program):
        self.program = program
        self.generator = cast(Stepwise, program.experiment.model)
        self._begin: dict[tuple, Callable] = {}

    def begin(self, controls: object, grid: tuple[int, int] | None) -> Callable:
        """Compiled: (params, inputs, keys) -> the state before the first evaluation, on a grid of
        codes (None: the codec's grid)."""
        if (controls, grid) not in self._begin:
            begin = self.generator.begin
            self._begin[controls, grid] = self.program.jit(
                lambda params, inputs, keys: begin(params, inputs, keys, controls, grid),
                out_shardings=self.program.batch_sharding,
            )
        return self._begin[controls, grid]

    @functools.cached_property
    def expert(self) -> Callable:
        """Compiled: (params, index) -> the parameters that an evaluation of one expert needs,
        sharded by the layout's rules for parameters."""
        return self.program.jit(self.generator.expert_params, out_shardings=self.expert_sharding)

    @functools.cached_property
    def expert_sharding(self) -> Any:
        """The shardings of one expert's parameters, by the layout's rules for parameters without
        the axis of experts."""
        expert, program = self.generator.expert_params, self.program
        resolve = resolver(program.layout, program.mesh, "params")
        boxed = jax.eval_shape(lambda p: expert(p, jnp.int32(0)), program.boxed)

        def place(box: Any) -> Any:
            rank = box.value.ndim
            return resolve(tuple(box.names[-rank:] if rank else ()), box.value.shape)

        return jax.tree.map(place, boxed, is_leaf=is_box)

    @functools.cached_property
    def advance(self) -> Callable:
        """Compiled: (one expert's parameters, state (donated), row, index, keys) -> the state after
        an evaluation. Every leaf of the state has the rows of the batch as its first axis, and
        keeps its sharding."""
        return self.program.jit(
            self.generator.advance, out_shardings=self.program.batch_sharding, donate_argnums=1
        )

    @functools.cached_property
    def estimate(self) -> Callable:
        """Compiled: a state -> (codes, which positions [b y x] are known yet)."""
        return self.program.jit(self.generator.estimate, out_shardings=self.program.replicated)

    @functools.cached_property
    def finish(self) -> Callable:
        """Compiled: the last state -> codes."""
        return self.program.jit(self.generator.finish, out_shardings=self.program.replicated)
