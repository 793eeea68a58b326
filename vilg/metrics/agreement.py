"""Agreement of raters and intervals of means over prompts: Krippendorff's alpha, and the percentile
bootstrap over prompts.

These functions do not know what the votes mean; ratings.py does. Alpha is computed here because the
package for it is under the GPL."""

from typing import Literal

import numpy as np
from jaxtyping import Float

PROMPTS_AT_ONCE = 500_000  # drawn in one batch of resamples, which bounds the memory


def alpha(
    ratings: Float[np.ndarray, "raters units"], level: Literal["nominal", "ordinal", "interval"]
) -> float | None:
    """Krippendorff's alpha: 1 is full agreement, 0 is the agreement of chance. NaN marks a missing
    rating.

    The result is None where alpha would be 0 / 0: no unit has two ratings, or all ratings of such
    units are equal. Source: Krippendorff, Computing Krippendorff's alpha-reliability (2011), which
    defines the coincidence matrix."""
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[:, :, None] == values).sum(0).astype(np.float64)  # [units, values]
    counts = counts[counts.sum(1) >= 2]
    weighted = counts / (counts.sum(1, keepdims=True) - 1)
    coincidences = np.einsum("uc,uk->ck", weighted, counts) - np.diag(weighted.sum(0))
    frequency = coincidences.sum(0)  # of each value, among ratings that can be paired
    if np.count_nonzero(frequency) < 2:
        return None
    # the ordinal difference of two values is the difference of their mean ranks
    ranks = np.cumsum(frequency) - frequency / 2 if level == "ordinal" else values
    difference = (
        np.subtract.outer(ranks, ranks) ** 2 if level != "nominal" else 1 - np.eye(len(values))
    )
    observed = (coincidences * difference).sum()
    expected = frequency @ difference @ frequency
    return float(1 - (frequency.sum() - 1) * observed / expected)


def bootstrap(
    sums: Float[np.ndarray, "prompts columns"],
    counts: Float[np.ndarray, " prompts"],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Float[np.ndarray, "2 columns"]:
    """The 95 % percentile intervals of `sums.sum(0) / counts.sum()` over resamples of prompts, each
    with all its votes.

    `sums` holds the sum of each quantity (one a column) over a prompt's votes, `counts` the number
    of the prompt's votes. Prompts are the clusters, because raters are few and the claim is about
    prompts to come (Efron and Tibshirani 1993, section 13.3)."""
    n, random = len(counts), np.random.default_rng(seed)
    size = max(1, PROMPTS_AT_ONCE // n)
    means = []
    for start in range(0, resamples, size):
        drawn = random.integers(0, n, (min(size, resamples - start), n))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1)[:, None])
    return np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
