"""Who owns which slice of time: experts 0 .. n-1 own (edges[k], edges[k+1]], expert 0 the least
noise (PAPERS 1.8 counts so, from t = 0).

One routing function serves trainer and sampler. Edges are n + 1 float64 numbers from 0 to 1; what
an expert is, is the generator's."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import jax
import numpy as np

from vilg.config import require
from vilg.processes.base import SAME_TIME, TIMESTEPS

PATH = "generator.split"
Quantile = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Uniform:
    """Equal slices of t (ERNIE-ViLG 2.0): integer timestep i belongs to floor(i / (1000 /
    experts)).
    """

    experts: int = 1

    def __post_init__(self) -> None:
        fits = self.experts > 0 and TIMESTEPS % self.experts == 0
        require(
            fits,
            f"{PATH}.experts",
            self.experts,
            f"must divide the {TIMESTEPS} timesteps: 1, 2, 5, 10 or 20",
        )

    def edges(self, quantile: Quantile) -> np.ndarray:
        """[experts + 1]; `quantile` is the process's."""
        return np.arange(self.experts + 1) / self.experts


@dataclass(frozen=True)
class Ends:
    """eDiff-I's three (2211.01324): the leftmost and rightmost leaf of the tree of equal masses at
    a level, and all between them.
    """

    level: int = 2

    experts = 3

    def __post_init__(self) -> None:
        require(
            2 <= self.level <= 9,
            f"{PATH}.level",
            self.level,
            "must be from 2 (each end a quarter of the draws) to 9",
        )

    def edges(self, quantile: Quantile) -> np.ndarray:
        end = 0.5**self.level
        return increasing([0.0, *quantile(np.array([end, 1 - end])), 1.0])


@dataclass(frozen=True)
class Tree:
    """All leaves of eDiff-I's tree: slices that training draws equally often."""

    experts: int = 2

    def __post_init__(self) -> None:
        power = self.experts > 0 and self.experts & (self.experts - 1) == 0
        require(power, f"{PATH}.experts", self.experts, "must be a power of two")

    def edges(self, quantile: Quantile) -> np.ndarray:
        return increasing([0.0, *quantile(np.arange(1, self.experts) / self.experts), 1.0])


SPLITS = {"uniform": Uniform, "ends": Ends, "tree": Tree}


def increasing(edges: Any) -> np.ndarray:
    """The edges, or a UserError where a slice is empty."""
    edges = np.asarray(edges, np.float64)
    require(
        bool(np.all(np.diff(edges) > 2 * SAME_TIME)),
        f"{PATH}.edges",
        edges.tolist(),
        "an expert would own no time: take fewer experts",
    )
    return edges


def expert_of(t: Any, edges: np.ndarray) -> Any:
    """The expert that owns each t in (0, 1], int32; t and answer are numpy or JAX. A t on an edge
    belongs to the slice below it.
    """
    t = t if isinstance(t, jax.Array) else np.asarray(t, np.float64)
    return (t[..., None] > np.asarray(edges)[1:-1] + SAME_TIME).sum(-1).astype(np.int32)


def require_owned(times: Any, edges: np.ndarray, expert: int) -> None:
    """UserError for the first time that lies outside the expert's slice."""
    n = len(edges) - 1
    require(0 <= expert < n, f"{PATH}.expert", expert, f"must be from 0 to {n - 1}")
    times = np.atleast_1d(np.asarray(times, np.float64))
    outside = times[(times <= 0) | (times > 1 + SAME_TIME) | (expert_of(times, edges) != expert)]
    slice_ = f"({edges[expert]:g}, {edges[expert + 1]:g}]"
    require(
        outside.size == 0,
        "t",
        float(outside[0]) if outside.size else None,
        f"expert {expert} owns {slice_}: ask the one that owns it",
    )


def group(times: np.ndarray, edges: np.ndarray) -> list[tuple[int, int, int]]:
    """[(expert, first, stop)]: the sampler's evaluations first .. stop-1 in runs of one expert, in
    order.
    """
    runs, first = [], 0
    for expert, members in groupby(expert_of(times, edges).tolist()):
        stop = first + len(list(members))
        runs.append((expert, first, stop))
        first = stop
    return runs
