"""KID against a double loop over pairs, and the drawing of subsets."""

import numpy as np
import pytest

from vilg.metrics.kernel import discrepancy, kernel_distance
from vilg.types import UserError


def by_hand(x, y):
    """The unbiased estimate, pair by pair."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def sets(n, m, d=6, shift=0.2):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, d)).astype(np.float32), (
        rng.standard_normal((m, d)) + shift
    ).astype(np.float32)


def test_it_is_the_double_loop():
    a, b = (x.astype(np.float64) for x in sets(11, 14))
    assert discrepancy(a, b) == pytest.approx(by_hand(a, b), rel=1e-9)


def test_equal_sets_smaller_than_a_subset_are_taken_whole():
    a, b = sets(30, 30)
    found = kernel_distance(a, b)
    assert (found.subsets, found.size, found.deviation) == (1, 30, 0.0)
    assert found.mean == pytest.approx(
        by_hand(a.astype(np.float64), b.astype(np.float64)), rel=1e-9
    )


def test_subsets_are_drawn_anew_and_by_the_seed():
    a, b = sets(60, 80)
    found = kernel_distance(a, b, subsets=40, size=20)
    whole = discrepancy(a.astype(np.float64), b.astype(np.float64))
    assert (found.subsets, found.size) == (40, 20) and found.deviation > 0
    assert abs(found.mean - whole) < 4 * found.deviation / np.sqrt(40)
    assert (
        kernel_distance(a, b, subsets=40, size=20)
        == found
        != kernel_distance(a, b, subsets=40, size=20, seed=1)
    )


def test_it_is_unbiased_where_the_sets_are_of_one_distribution():
    values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values.append(discrepancy(*rng.standard_normal((2, 12, 5))))
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200)


def test_one_picture_is_too_few():
    a, b = sets(1, 9)
    with pytest.raises(UserError, match="KID of 1 and 9 pictures"):
        kernel_distance(a, b)
