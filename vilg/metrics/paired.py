"""Which of two systems is better on the same prompts, and whether that is more than chance.

Two things vary: which prompts were asked, and which seed a model was trained from. Prompts are
tested by flipping signs (of one seed this is McNemar's exact test, drawn), seeds by Student's t. A
difference counts only where it holds over both; of one training seed the second is unknown, and the
result says so."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vilg.metrics.intervals import t_interval

DRAWS = 20_000
LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Paired:
    """A against B on the same prompts; differences are A's mean score less B's. Wins, ties and
    losses count trials (seed x prompt).
    """

    wins: int
    ties: int
    losses: int
    difference: float
    interval: tuple[float, float]  # 95 %, over prompts
    # over prompts: as large a difference under the hypothesis that A and B may be exchanged on
    # every prompt
    p: float
    seeds: int
    interval_seeds: (
        list[float] | None
    )  # 95 %, Student's t over training seeds; None of fewer than two

    def verdict(self, p: float | None = None) -> str:
        """ "better", "worse" or "no significant difference", of A; `p` may be the one that is
        corrected for many tests.
        """
        if (self.p if p is None else p) >= LEVEL or (
            self.interval_seeds and self.interval_seeds[0] <= 0 <= self.interval_seeds[1]
        ):
            return "no significant difference"
        return "better" if self.difference > 0 else "worse"


def paired(a: Float[np.ndarray, "s n"], b: Float[np.ndarray, "s n"], seed: int = 0) -> Paired:
    """A against B: scores of s training seeds on the same n prompts. Errors: ValueError for shapes
    that differ, or nothing to compare.
    """
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"scores of shapes {a.shape} and {b.shape} cannot be paired")
    by_prompt = (a - b).mean(0)
    rng = np.random.default_rng(seed)
    observed, n = abs(by_prompt.sum()), len(by_prompt)
    counted = by_prompt[by_prompt != 0]
    flipped = np.abs(rng.choice(np.array([-1.0, 1.0]), (DRAWS, len(counted))) @ counted)
    beyond = np.sum(flipped >= observed - 1e-9)
    means = np.concatenate(
        [by_prompt[rng.integers(0, n, (size, n))].mean(1) for size in [1000] * (DRAWS // 1000)]
    )
    return Paired(
        wins=int(np.sum(a > b)),
        ties=int(np.sum(a == b)),
        losses=int(np.sum(a < b)),
        difference=float(by_prompt.mean()),
        interval=(float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))),
        p=float((beyond + 1) / (DRAWS + 1)),
        seeds=len(a),
        interval_seeds=t_interval([float(d) for d in (a - b).mean(1)]),
    )


def holm(values: Sequence[float]) -> list[float]:
    """The p-values, corrected so that the chance of any false finding among them stays below the
    level (Holm 1979).
    """
    order = np.argsort(values)
    out, highest = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[i]))
        out[i] = highest
    return out
