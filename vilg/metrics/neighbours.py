"""Fidelity and diversity as separate numbers: precision and recall, density and coverage.

Each set is represented by balls around its features, which reach to the k-th nearest neighbour.
Precision and recall: Kynkaanniemi et al. 2019 (k = 3, eqs. 1 and 2). Density and coverage: Naeem et
al. 2020 (k = 5, eqs. 4 and 6), which a single outlier does not change. Distances are computed in
blocks of rows, so that memory does not grow with the square of the sets' sizes."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from vilg.types import UserError

PRECISION_K, DENSITY_K = 3, 5
BLOCK = 2**23  # distances held at once, 8 bytes each


def precision_recall(
    real: Float[np.ndarray, "n d"], generated: Float[np.ndarray, "m d"], k: int = PRECISION_K
) -> dict[str, float]:
    """The share of generated features inside the real set ("precision"), and the share of real
    features inside the generated set ("recall").
    """
    return {
        "precision": share_inside(generated, real, k),
        "recall": share_inside(real, generated, k),
    }


def share_inside(
    points: Float[np.ndarray, "m d"], manifold: Float[np.ndarray, "n d"], k: int
) -> float:
    """The share of points that lie in a ball around some feature of the manifold; the radius of a
    ball is the distance to that feature's k-th neighbour.
    """
    radii = neighbour_radii(manifold, k)
    inside = sum(
        int(np.count_nonzero((block <= radii).any(1))) for _, block in blocks(points, manifold)
    )
    return inside / len(points)


def density_coverage(
    real: Float[np.ndarray, "n d"], generated: Float[np.ndarray, "m d"], k: int = DENSITY_K
) -> dict[str, float]:
    """The mean number of real balls that a generated feature lies in, over k ("density", which may
    exceed 1), and the share of real balls with a generated feature ("coverage").
    """
    radii = neighbour_radii(real, k)
    covered = np.zeros(len(real), bool)
    hits = 0
    for _, block in blocks(generated, real):
        inside = block < radii
        hits += int(inside.sum())
        covered |= inside.any(0)
    return {"density": hits / (k * len(generated)), "coverage": float(covered.mean())}


def neighbour_radii(features: Float[np.ndarray, "n d"], k: int) -> Float[np.ndarray, " n"]:
    """The squared distance of each feature to its k-th nearest other feature. Errors: UserError
    for k rows or fewer.
    """
    if len(features) <= k:
        raise UserError(
            f"{len(features)} pictures: the {k} nearest neighbours of each need at least {k + 1};"
            " give more pictures"
        )
    radii = []
    for first, block in blocks(features, features):
        rows = np.arange(len(block))
        block[rows, first + rows] = np.inf  # a feature is not its own neighbour
        radii.append(np.partition(block, k - 1, axis=1)[:, k - 1])
    return np.concatenate(radii)


def blocks(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]
) -> Iterator[tuple[int, Float[np.ndarray, "r m"]]]:
    """Yields (index of the block's first row, squared distances of the block's rows of `a` to all
    rows of `b`).
    """
    rows = max(1, BLOCK // len(b))
    b = b.astype(np.float64)
    centre = b.mean(0)  # features are far from 0, where |x|^2 + |y|^2 - 2 x.y would cancel
    b = b - centre
    squares = np.square(b).sum(1)
    for first in range(0, len(a), rows):
        part = a[first : first + rows].astype(np.float64) - centre
        block = part @ b.T
        block *= -2.0
        block += squares
        block += np.square(part).sum(1)[:, None]
        yield first, np.maximum(block, 0.0, out=block)
