"""The Inception Score where it is known.

Equal rows score 1; certain rows, evenly spread, score the number of classes; zeros are allowed; the
order of rows matters little."""

import numpy as np
import pytest

from vilg.metrics.inception_score import inception_score, split_score
from vilg.types import UserError


def test_equal_rows_score_one_and_certain_even_rows_the_number_of_classes():
    same = np.tile(np.array([0.7, 0.2, 0.1], np.float32), (50, 1))
    assert inception_score(same).mean == pytest.approx(1.0, abs=1e-9)
    certain = np.eye(5, dtype=np.float32)[np.arange(500) % 5]
    assert inception_score(certain, splits=1).mean == pytest.approx(5.0, rel=1e-9)


def test_it_is_the_formula():
    p = np.random.default_rng(0).dirichlet(np.ones(4), 30)
    mean = p.mean(0)
    expected = np.exp(
        np.mean([sum(q * np.log(q / m) for q, m in zip(row, mean, strict=True)) for row in p])
    )
    assert split_score(p) == pytest.approx(expected, rel=1e-9)


def test_a_folder_sorted_by_class_is_shuffled_before_it_is_split():
    certain = np.eye(5, dtype=np.float32)[np.arange(500) // 100]
    found = inception_score(certain)
    assert found.splits == 10 and 4.5 < found.mean <= 5.0 and found.deviation > 0
    assert [inception_score(certain[:n]).splits for n in (4, 39, 500)] == [1, 3, 10]


def test_no_picture_is_too_few():
    with pytest.raises(UserError, match="IS of 0 pictures"):
        inception_score(np.zeros((0, 3), np.float32))
