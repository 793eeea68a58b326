"""The Inception Score (Salimans et al. 2016): exp of the mean KL divergence between a picture's
class probabilities and the set's mean.

It knows no reference set: a generator that copies one picture of each class scores best.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vilg.types import UserError

SPLITS = 10
ENOUGH = 10  # pictures of a split: of one picture it would be 1 whatever the picture


class InceptionScore(NamedTuple):
    """The mean and the standard deviation over splits, and how many."""

    mean: float
    deviation: float
    splits: int


def inception_score(
    probabilities: Float[np.ndarray, "n v"], splits: int = SPLITS, seed: int = 0
) -> InceptionScore:
    """The score, rows shuffled first: folders are often sorted by class, and a split of one class
    would score 1. Few rows have fewer splits.

    Errors: UserError for no rows.
    """
    n = len(probabilities)
    if n < 1:
        raise UserError("IS of 0 pictures: give at least one")
    splits = min(splits, max(1, n // ENOUGH))
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
    some = p > 0  # 0 log 0 is 0
    terms[some] = p[some] * (np.log(p[some]) - np.log(np.broadcast_to(mean, p.shape)[some]))
    return float(np.exp(terms.sum(1).mean()))
