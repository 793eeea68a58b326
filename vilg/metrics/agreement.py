"""How far raters agree, and how sure a mean over prompts is: Krippendorff's alpha and the percentile bootstrap over prompts.

Separate from what the votes mean (ratings.py). Alpha itself is the `krippendorff` package's; this adds its two undefined cases.
"""

from typing import Literal

import krippendorff
import numpy as np
from jaxtyping import Float

AT_ONCE = 2_000_000  # numbers of one batch of resamples


def alpha(ratings: Float[np.ndarray, "raters units"], level: Literal["nominal", "ordinal", "interval"]) -> float | None:
    """Krippendorff's alpha (Content Analysis, 2004, chapter 11): 1 is full agreement, 0 is what chance gives. NaN is a missing rating.

    None where it is 0 / 0: no unit has two ratings, or all ratings of such units are alike.
    """
    paired = ratings[:, np.sum(~np.isnan(ratings), 0) >= 2]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=paired, level_of_measurement=level))


def bootstrap(
    sums: Float[np.ndarray, "prompts columns"], counts: Float[np.ndarray, " prompts"], *, resamples: int = 10_000, seed: int = 0
) -> Float[np.ndarray, "2 columns"]:
    """The 95 % percentile intervals of `sums.sum(0) / counts.sum()` when prompts are drawn anew, each with all its votes.

    sums: over a prompt's votes, one column a quantity; counts: its votes. The clusters are prompts, as raters are few and the claim is about
    prompts to come (Efron and Tibshirani 1993, section 13.3).
    """
    n, random = len(counts), np.random.default_rng(seed)
    size = max(1, AT_ONCE // n)
    means = []
    for start in range(0, resamples, size):
        times = random.multinomial(n, np.full(n, 1 / n), size=min(size, resamples - start))  # how often each prompt is drawn
        means.append((times @ sums) / (times @ counts)[:, None])
    return np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
