"""KID: the squared maximum mean discrepancy between features under a cubic kernel (Binkowski et al.
2018). It is unbiased at any number of pictures.

The kernel is k(x, y) = (x . y / d + 1)^3. As in the paper, the mean over random subsets is
reported with the standard deviation between subsets."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vilg.types import UserError

SUBSETS, SUBSET_SIZE = 100, 1000


class KernelDistance(NamedTuple):
    """The mean and the standard deviation over subsets, and the number and the size of subsets."""

    mean: float
    deviation: float
    subsets: int
    size: int


def kernel_distance(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m d"],
    subsets: int = SUBSETS,
    size: int = SUBSET_SIZE,
    seed: int = 0,
) -> KernelDistance:
    """KID of two sets of features.

    A subset is drawn without replacement; it has all rows of the smaller set where that has fewer
    than `size`. Errors: UserError for fewer than two rows."""
    size = min(size, len(a), len(b))
    if size < 2:
        raise UserError(
            f"KID of {len(a)} and {len(b)} pictures: needs at least 2 of each; give more pictures"
        )
    if size == len(a) == len(b):
        subsets = 1  # every subset would be the whole set
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        x, y = (f[rng.choice(len(f), size, replace=False)].astype(np.float64) for f in (a, b))
        values.append(discrepancy(x, y))
    return KernelDistance(float(np.mean(values)), float(np.std(values)), subsets, size)


def discrepancy(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """The unbiased estimate of the squared discrepancy (Gretton et al. 2012, eq. 3).

    The estimate may be negative."""
    n, m = len(x), len(y)
    xx, yy, xy = cubic(x, x), cubic(y, y), cubic(x, y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2.0 * xy.mean())


def cubic(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """(x . y / d + 1)^3 of every pair."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3
