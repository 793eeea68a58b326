"""Precision, recall, density and coverage against the full matrix of distances (the arithmetic of
the `prdc` package), and by hand."""

import numpy as np
import pytest

from vilg.metrics import neighbours
from vilg.metrics.neighbours import density_coverage, neighbour_radii, precision_recall
from vilg.types import UserError


def table(a, b):
    return np.linalg.norm(a[:, None].astype(np.float64) - b[None].astype(np.float64), axis=-1)


def prdc(real, made, k):
    """All four numbers as the authors of density and coverage compute them."""
    radii = [
        np.sort(table(x, x), 1)[:, k] for x in (real, made)
    ]  # the nearest of all is the feature itself
    between = table(real, made)
    inside = between < radii[0][:, None]
    return {
        "precision": inside.any(0).mean(),
        "recall": (between < radii[1][None]).any(1).mean(),
        "density": inside.sum(0).mean() / k,
        "coverage": (between.min(1) < radii[0]).mean(),
    }


@pytest.mark.parametrize("block", [1, 700, neighbours.BLOCK])
def test_they_are_prdcs_in_blocks_of_any_size(block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    rng = np.random.default_rng(0)
    real = (500 + rng.standard_normal((60, 8))).astype(np.float32)
    made = (500.6 + 0.7 * rng.standard_normal((85, 8))).astype(np.float32)
    for k in (3, 5):
        expected = prdc(real, made, k)
        assert 0 < expected["recall"] < 1 and 0 < expected["coverage"] < 1
        assert precision_recall(real, made, k) | density_coverage(real, made, k) == pytest.approx(
            expected, abs=1e-12
        )


def test_by_hand_on_a_line():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    made = np.array([[0.0], [0.5], [4.0], [50.0]])
    # k = 1: balls 0+-1, 1+-1, 2+-1, 10+-8 hold 0, 0.5 and 4; made balls 0+-0.5, 0.5+-0.5, 4+-3.5,
    # 50+-46 hold all of real
    assert precision_recall(real, made, 1) == {"precision": 0.75, "recall": 1.0}
    # inside, edges left out: 0 in the first; 0.5 in the first two; 4 in the last
    assert density_coverage(real, made, 1) == {"density": 1.0, "coverage": 0.75}


def test_a_copy_of_the_reference_is_perfect():
    real = np.random.default_rng(0).standard_normal((40, 5))
    assert precision_recall(real, real) == {"precision": 1.0, "recall": 1.0}
    assert density_coverage(real, real)["coverage"] == 1.0


def test_a_set_of_k_pictures_has_no_kth_neighbour():
    with pytest.raises(
        UserError, match="5 pictures: the 5 nearest neighbours of each need at least 6"
    ):
        neighbour_radii(np.zeros((5, 2)), 5)
