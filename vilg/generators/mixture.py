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
from jaxtyping import Array

from vilg.config import build, lookup, require
from vilg.parallel.axes import is_box
from vilg.parallel.constrain import constrain, map_experts
from vilg.processes.splits import SPLITS
from vilg.types import Composite, Params


@dataclasses.dataclass(frozen=True)
class Experts(Composite):
    """n experts by a split of time. With `only` one of them is trained alone (one job an expert;
    `vilg assemble` joins them).
    """

    n: int = 1  # denoisers, each of which owns a slice of time
    # section of how time is shared out: "name" is one of SPLITS
    split: Any = dataclasses.field(default_factory=lambda: {"name": "uniform"})
    # trains this expert alone, for `vilg assemble`; -1: all of them
    only: int = dataclasses.field(default=-1, metadata={"signed": True})
    # whether the text encoder goes on learning when there are several experts: unknown in the paper
    train_text: bool = False

    PARTS: ClassVar[Mapping[str, Any]] = {"split": SPLITS}

    def __post_init__(self) -> None:
        require(self.n >= 1, "generator.experts.n", self.n, "must be at least 1")
        fits = -1 <= self.only < self.n
        remedy = f"must be -1 (all) or an expert from 0 to {self.n - 1}"
        require(fits, "generator.experts.only", self.only, remedy)

    @property
    def stacked(self) -> bool:
        """Whether parameters have an axis of experts."""
        return self.n > 1 and self.only < 0

    @property
    def trained(self) -> tuple[int, ...]:
        """The experts that this run trains."""
        return tuple(range(self.n)) if self.only < 0 else (self.only,)

    def edges(self, quantile: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The n + 1 times between the experts' slices, from 0 to 1.

        `quantile` maps shares of the training draws to times (Process.quantile). Errors: UserError
        for a split that is of another number of experts.
        """
        path = "generator.experts.split"
        kind = lookup(SPLITS, self.split.get("name"), f"{path}.name")
        takes_number = "experts" in {f.name for f in dataclasses.fields(kind)}
        split = build(kind, self.split, path, **({"experts": self.n} if takes_number else {}))
        remedy = f"this split has {split.experts} experts; give that many"
        require(split.experts == self.n, "generator.experts.n", self.n, remedy)
        return split.edges(quantile)

    def copies(self, denoiser: Params) -> Params:
        """One denoiser's parameters, boxed or not, once for each expert."""
        if not self.stacked:
            return denoiser

        def copy(leaf: Any) -> Any:
            array = leaf.value if is_box(leaf) else leaf
            value = jnp.broadcast_to(array[None], (self.n, *array.shape))
            if not is_box(leaf):
                return value
            return leaf.replace(value=value, names=("expert", *leaf.names))

        return jax.tree.map(copy, denoiser, is_leaf=is_box)

    def select(self, denoiser: Params, index: Any) -> Params:
        """The parameters of one expert."""
        return jax.tree.map(lambda x: x[index], denoiser) if self.stacked else denoiser

    def apply_to_slices(
        self, denoise: Callable[..., Array], denoiser: Params, shared: Params, rows: Any
    ) -> Array:
        """Every expert's output on its own slice of the rows [b, ...], in the rows' order.

        `denoise(weights, *rows)` is one expert's evaluation; `shared` is a mapping of parameters
        that all experts read.
        """
        if not self.stacked:
            return denoise({**shared, "denoiser": denoiser}, *rows)
        n = self.n

        def split(x: Array) -> Array:
            x = x.reshape(n, x.shape[0] // n, *x.shape[1:])
            return constrain(x, "expert", "expert_batch", *(None,) * (x.ndim - 2))

        rows = jax.tree.map(split, rows)
        tables = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), shared)

        def one(item: Any) -> Array:
            weights, table, part = item
            return denoise({**table, "denoiser": weights}, *part)

        output = map_experts(one, (denoiser, tables, rows))
        return output.reshape(n * output.shape[1], *output.shape[2:])


@runtime_checkable
class HasExperts(Protocol):
    """A model whose time is shared out among experts."""

    experts: Experts


@dataclasses.dataclass(frozen=True, eq=False)
class SamplingSchedule:
    """What a sampler evaluates, and which expert does: `times` [k] and `rows`, a mapping of arrays
    [k, ...] in float64; `runs` are (expert, first, last), of the evaluations first to last - 1.
    """

    times: np.ndarray
    rows: Mapping[str, np.ndarray]
    runs: tuple[tuple[int, int, int], ...]
