"""The Inception Score (Salimans et al. 2016): exp of the mean KL divergence between a picture's
class probabilities and their mean over the set.

The score has no reference set: a generator that copies one picture of each class scores best."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vilg.types import UserError

SPLITS = 10
# pictures that a split should have; the score of a split of one picture is always 1
PICTURES_A_SPLIT = 10


class InceptionScore(NamedTuple):
    """The mean and the standard deviation over splits, and the number of splits."""

    mean: float
    deviation: float
    splits: int


def inception_score(
    probabilities: Float[np.ndarray, "n v"], splits: int = SPLITS, seed: int = 0
) -> InceptionScore:
    """The score of a picture a row, over splits of shuffled rows.

    Rows are shuffled because folders are often sorted by class, and a split of one class would
    score 1. A small set has fewer splits. Errors: UserError for no rows."""
    n = len(probabilities)
    if n < 1:
        raise UserError("IS of 0 pictures: give at least one")
    splits = min(splits, max(1, n // PICTURES_A_SPLIT))
    order = np.random.default_rng(seed).permutation(n)
    scores = [
        split_score(probabilities[order[i * n // splits : (i + 1) * n // splits]])
        for i in range(splits)
    ]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits)


def split_score(probabilities: Float[np.ndarray, "n v"]) -> float:
    """The score of one split."""
    p = probabilities.astype(np.float64)
    mean = p.mean(0)
    terms = np.zeros_like(p)
    positive = p > 0  # 0 log 0 is 0
    terms[positive] = p[positive] * (
        np.log(p[positive]) - np.log(np.broadcast_to(mean, p.shape)[positive])
    )
    return float(np.exp(terms.sum(1).mean()))
