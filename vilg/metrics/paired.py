"""Paired comparison: which of two systems is better on the same prompts, and whether the difference
is more than chance.

Two things vary: the prompts, and the seed from which a model was trained. Prompts are tested by
random sign flips (with one seed, this is McNemar's exact test estimated from draws), seeds by
Student's t. A difference counts only where both tests find it; with one training seed the variation
over seeds is unknown, and the result says so."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vilg.metrics.intervals import t_interval

DRAWS = 20_000  # of sign flips, and of resampled prompts
SIGNIFICANCE = 0.05


@dataclasses.dataclass(frozen=True)
class Paired:
    """System A against system B on the same prompts. A difference is A's mean score minus B's."""

    wins: int  # trials (a seed and a prompt) where A scores higher
    ties: int
    losses: int
    difference: float
    interval: tuple[float, float]  # 95 %, over prompts
    # probability of as large a difference, if A and B could be exchanged on every prompt
    p: float
    seeds: int
    # 95 % over training seeds, by Student's t; None for fewer than two seeds
    interval_seeds: list[float] | None

    def verdict(self, p: float | None = None) -> str:
        """ "better", "worse" or "no significant difference" of A; `p` replaces the p-value, for
        example by one that is corrected for many tests.
        """
        if (self.p if p is None else p) >= SIGNIFICANCE or (
            self.interval_seeds and self.interval_seeds[0] <= 0 <= self.interval_seeds[1]
        ):
            return "no significant difference"
        return "better" if self.difference > 0 else "worse"


def paired(a: Float[np.ndarray, "s n"], b: Float[np.ndarray, "s n"], seed: int = 0) -> Paired:
    """Compares A with B, each with the scores of s training seeds on the same n prompts. Errors:
    ValueError for shapes that differ, or no scores.
    """
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"scores of shapes {a.shape} and {b.shape} cannot be paired")
    by_prompt = (a - b).mean(0)
    rng = np.random.default_rng(seed)
    observed, n = abs(by_prompt.sum()), len(by_prompt)
    different = by_prompt[by_prompt != 0]
    flipped = np.abs(rng.choice(np.array([-1.0, 1.0]), (DRAWS, len(different))) @ different)
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
    """The p-values, corrected so that the probability of any false finding among them stays below
    the level of significance (Holm 1979).
    """
    order = np.argsort(values)
    out, highest = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[i]))
        out[i] = highest
    return out
