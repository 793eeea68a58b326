"""How far raters agree, and how sure a mean over prompts is: Krippendorff's alpha and the
percentile bootstrap over prompts.

Separate from what the votes mean (ratings.py). Alpha is written out here because the package for it
is under the GPL."""

from typing import Literal

import numpy as np
from jaxtyping import Float

AT_ONCE = 500_000  # prompts drawn in one batch of resamples


def alpha(
    ratings: Float[np.ndarray, "raters units"], level: Literal["nominal", "ordinal", "interval"]
) -> float | None:
    """Krippendorff's alpha: 1 is full agreement, 0 is what chance gives. NaN is a missing rating.

    None where it is 0 / 0: no unit has two ratings, or all ratings of such units are alike. Source:
    Krippendorff, Computing Krippendorff's alpha-reliability (2011), whose coincidence matrix is o
    here."""
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[:, :, None] == values).sum(0).astype(np.float64)  # [units, values]
    counts = counts[counts.sum(1) >= 2]
    o = np.einsum("uc,uk->ck", counts / (counts.sum(1, keepdims=True) - 1), counts)
    o -= np.diag((counts / (counts.sum(1, keepdims=True) - 1)).sum(0))
    often = o.sum(0)
    if np.count_nonzero(often) < 2:
        return None
    places = (
        np.cumsum(often) - often / 2 if level == "ordinal" else values
    )  # the ordinal difference is that of mean ranks
    apart = (
        (np.subtract.outer(places, places) ** 2) if level != "nominal" else 1 - np.eye(len(values))
    )
    return float(1 - (often.sum() - 1) * (o * apart).sum() / (often @ apart @ often))


def bootstrap(
    sums: Float[np.ndarray, "prompts columns"],
    counts: Float[np.ndarray, " prompts"],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Float[np.ndarray, "2 columns"]:
    """The 95 % percentile intervals of `sums.sum(0) / counts.sum()` when prompts are drawn anew,
    each with all its votes.

    sums: over a prompt's votes, one column a quantity; counts: its votes. The clusters are prompts,
    as raters are few and the claim is about prompts to come (Efron and Tibshirani 1993, section
    13.3)."""
    n, random = len(counts), np.random.default_rng(seed)
    size = max(1, AT_ONCE // n)
    means = []
    for start in range(0, resamples, size):
        drawn = random.integers(0, n, (min(size, resamples - start), n))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1)[:, None])
    return np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
