"""Denoising experts: n denoisers of one architecture, each of which owns a slice of time
(ERNIE-ViLG 2.0, section 3.3; PAPERS 1.8).

The parameters of n experts have a leading axis "expert". A batch is n equal slices of rows, and
slice k is trained at times of expert k's slice of time, so no weight is ever gathered by the time
of a row."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from vilg.config import build, lookup, require
from vilg.parallel.axes import is_box
from vilg.parallel.constrain import constrain, map_experts
from vilg.processes.splits import SPLITS
from vilg.types import Composite, Params


@dataclasses.dataclass(frozen=True)
class Experts(Composite):
    """n experts, which divide time by a split. With `only` one of them is trained alone (one job
    for each expert; `vilg assemble` joins the runs)."""

    n: int = 1  # denoisers, each of which owns a slice of time
    # section of the split of time among the experts: "name" is one of SPLITS
    split: Any = dataclasses.field(default_factory=lambda: {"name": "uniform"})
    # trains this expert alone, for `vilg assemble`; -1: all of them
    only: int = dataclasses.field(default=-1, metadata={"signed": True})
    # whether the text encoder is trained when there are several experts: unknown in the paper
    train_text: bool = False

    PARTS: ClassVar[Mapping[str, Any]] = {"split": SPLITS}

    def __post_init__(self) -> None:
        require(self.n >= 1, "generator.experts.n", self.n, "must be at least 1")
        fits = -1 <= self.only < self.n
        remedy = f"must be -1 (all) or an expert from 0 to {self.n - 1}"
        require(fits, "generator.experts.only", self.only, remedy)

    @property
    def stacked(self) -> bool:
        """Whether the parameters have an axis of experts."""
        return self.n > 1 and self.only < 0

    @property
    def trained(self) -> tuple[int, ...]:
        """The experts that this run trains."""
        return tuple(range(self.n)) if self.only < 0 else (self.only,)

    def edges(self, quantile: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The n + 1 times that bound the experts' slices, from 0 to 1.

        `quantile` maps shares of the training draws to times (Process.quantile). Errors: UserError
        for a split with another number of experts."""
        path = "generator.experts.split"
        kind = lookup(SPLITS, self.split.get("name"), f"{path}.name")
        takes_number = "experts" in {f.name for f in dataclasses.fields(kind)}
        split = build(kind, self.split, path, **({"experts": self.n} if takes_number else {}))
        remedy = f"this split has {split.experts} experts; give that many"
        require(split.experts == self.n, "generator.experts.n", self.n, remedy)
        return split.edges(quantile)

    def copies(self, denoiser: Params) -> Params:
        """One denoiser's parameters, boxed or not, repeated for each expert."""
        if not self.stacked:
            return denoiser

        def copy(leaf: Any) -> Any:
            array = leaf.value if is_box(leaf) else leaf
            value = jnp.broadcast_to(array[None], (self.n, *array.shape))
            if not is_box(leaf):
                return value
            return leaf.replace(value=value, names=("expert", *leaf.names))

        return jax.tree.map(copy, denoiser, is_leaf=is_box)

    def select(self, denoiser: Params, index: object) -> Params:
        """The parameters of one expert."""
        return jax.tree.map(lambda x: x[index], denoiser) if self.stacked else denoiser

    def apply_to_slices(
        self,
        denoise: Callable[..., Array],
        denoiser: Params,
        shared: Params,
        rows: tuple[PyTree, ...],
    ) -> Array:
        """Every expert's output for its own slice of the rows [b, ...], in the order of the rows.

        `denoise(weights, *rows)` is an evaluation of one expert; `shared` maps names to parameters
        that all experts read."""
        if not self.stacked:
            return denoise({**shared, "denoiser": denoiser}, *rows)
        n = self.n

        def split(x: Array) -> Array:
            x = x.reshape(n, x.shape[0] // n, *x.shape[1:])
            return constrain(x, "expert", "expert_batch", *(None,) * (x.ndim - 2))

        rows = jax.tree.map(split, rows)
        repeated = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), shared)

        def evaluate_expert(operands: tuple) -> Array:
            weights, shared_weights, slice_rows = operands
            return denoise({**shared_weights, "denoiser": weights}, *slice_rows)

        output = map_experts(evaluate_expert, (denoiser, repeated, rows))
        return output.reshape(n * output.shape[1], *output.shape[2:])


@runtime_checkable
class HasExperts(Protocol):
    """A model whose time is divided among experts."""

    experts: Experts


@dataclasses.dataclass(frozen=True, eq=False)
class SamplingSchedule:
    """The evaluations of a sampler and the expert of each.

    `times` [k] are the times of the evaluations. `rows` maps names to arrays [k, ...] in float64,
    the numbers of each evaluation. A run (expert, first, last) says that the expert owns the
    evaluations first to last - 1."""

    times: np.ndarray
    rows: Mapping[str, np.ndarray]
    runs: tuple[tuple[int, int, int], ...]
