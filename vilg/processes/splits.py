"""The split of time among experts: experts 0 .. n-1 own the slices (edges[k], edges[k+1]], expert 0
the one with the least noise (PAPERS 1.8 counts so, from t = 0).

One routing function serves trainer and sampler. Edges are n + 1 float64 numbers from 0 to 1. The
experts' parameters are the generator's concern.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, Protocol

import jax
import numpy as np

from vilg.config import require
from vilg.processes.base import SAME_TIME, TIMESTEPS

PATH = "generator.experts.split"
Quantile = Callable[[np.ndarray], np.ndarray]  # Process.quantile


class Split(Protocol):
    """An entry of SPLITS: a frozen dataclass."""

    @property
    def experts(self) -> int:
        """The number of slices."""
        ...

    def edges(self, quantile: Quantile) -> np.ndarray:
        """The n + 1 edges of the slices, for a process's `quantile`."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Equal slices of t (ERNIE-ViLG 2.0): integer timestep i belongs to floor(i / (1000 /
    experts)).
    """

    experts: int = 1  # given by experts.n

    def __post_init__(self) -> None:
        fits = self.experts > 0 and TIMESTEPS % self.experts == 0
        require(
            fits,
            f"{PATH}.experts",
            self.experts,
            f"must divide the {TIMESTEPS} timesteps: 1, 2, 5, 10 or 20",
        )

    def edges(self, quantile: Quantile) -> np.ndarray:
        return np.arange(self.experts + 1) / self.experts


@dataclass(frozen=True)
class Ends:
    """eDiff-I's three slices (2211.01324): the first and the last leaf of the tree at a level, and
    all between them. The tree halves the training times at each level.
    """

    level: int = 2  # of the tree of equal masses whose first and last leaves are experts

    experts: ClassVar[int] = 3

    def __post_init__(self) -> None:
        require(
            2 <= self.level <= 9,
            f"{PATH}.level",
            self.level,
            "must be from 2 (each end a quarter of the draws) to 9",
        )

    def edges(self, quantile: Quantile) -> np.ndarray:
        end = 0.5**self.level
        return checked_edges([0.0, *quantile(np.array([end, 1 - end])), 1.0])


@dataclass(frozen=True)
class Tree:
    """All leaves of eDiff-I's tree: slices that hold equally many training times."""

    experts: int = 2  # given by experts.n

    def __post_init__(self) -> None:
        power = self.experts > 0 and self.experts & (self.experts - 1) == 0
        require(power, f"{PATH}.experts", self.experts, "must be a power of two")

    def edges(self, quantile: Quantile) -> np.ndarray:
        return checked_edges([0.0, *quantile(np.arange(1, self.experts) / self.experts), 1.0])


SPLITS: dict[str, type[Uniform] | type[Ends] | type[Tree]] = {
    "uniform": Uniform,
    "ends": Ends,
    "tree": Tree,
}


def checked_edges(edges: list[float]) -> np.ndarray:
    """The edges as float64. Errors: UserError where a slice is empty."""
    array = np.asarray(edges, np.float64)
    require(
        bool(np.all(np.diff(array) > 2 * SAME_TIME)),
        f"{PATH}.edges",
        array.tolist(),
        "an expert would own no time: take fewer experts",
    )
    return array


def expert_of(
    t: float | np.ndarray | jax.Array, edges: np.ndarray
) -> np.ndarray | np.int32 | jax.Array:
    """The expert that owns each t in (0, 1], int32 of t's kind. A t on an edge belongs to the slice
    below it.
    """
    t = t if isinstance(t, jax.Array) else np.asarray(t, np.float64)
    return (t[..., None] > np.asarray(edges)[1:-1] + SAME_TIME).sum(-1).astype(np.int32)


def expert_runs(times: np.ndarray, edges: np.ndarray) -> list[tuple[int, int, int]]:
    """[(expert, start, stop)]: a sampler's evaluations start .. stop - 1 in runs of one expert, in
    order.
    """
    runs, start = [], 0
    experts = np.asarray(expert_of(times, edges)).tolist()
    for expert, members in groupby(experts):
        stop = start + len(list(members))
        runs.append((expert, start, stop))
        start = stop
    return runs
