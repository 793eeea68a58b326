"""The Frechet distance of two Gaussians. FID is this distance between features of InceptionV3
(Heusel et al. 2017, eq. 6).

The distance is |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). pytorch-fid takes the matrix root of
S1 S2. That product is not symmetric, and it is singular where there are fewer pictures than
features, where its numerical root is noise. With S1 = L1 L1^T and S2 = L2 L2^T the trace of the
root is the sum of the singular values of L1^T L2: the same number, from symmetric matrices, without
roots of rounding errors."""

import numpy as np
import scipy.linalg
from jaxtyping import Float

from vilg.metrics.statistics import FeatureStatistics
from vilg.types import UserError


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The distance, at least 0. Errors: UserError where the widths differ."""
    if a.width != b.width:
        raise UserError(
            f"features of width {a.width} and {b.width} cannot be compared; use one extractor for"
            " both sets"
        )
    return distance(a.mean, a.covariance, b.mean, b.covariance)


def distance(
    mean1: Float[np.ndarray, " d"],
    covariance1: Float[np.ndarray, "d d"],
    mean2: Float[np.ndarray, " d"],
    covariance2: Float[np.ndarray, "d d"],
) -> float:
    """The distance of two Gaussians."""
    cross = factor(covariance1).T @ factor(covariance2)
    root = np.linalg.svd(cross, compute_uv=False).sum() if cross.size else 0.0
    means = np.square(mean1 - mean2).sum()
    return max(0.0, float(means + np.trace(covariance1) + np.trace(covariance2) - 2.0 * root))


def factor(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d r"]:
    """L with L L^T = the covariance, with as many columns as the covariance's numerical rank.

    The rank has the tolerance of numpy.linalg.matrix_rank."""
    values, vectors = scipy.linalg.eigh(covariance)
    positive = values > values[-1] * len(values) * np.finfo(values.dtype).eps
    return vectors[:, positive] * np.sqrt(values[positive])


def small_set_warning(count: int, width: int, which: str) -> str:
    """A warning where a set has too few pictures for a covariance of full rank, else ""."""
    if not 0 < count <= width:
        return ""
    return (
        f"the {which} set has {count} pictures, not more than the {width} features: its covariance"
        " is singular, and the Frechet distance is biased upwards by much; compare it only with"
        " distances of as many pictures, or look at KID, which is unbiased"
    )
