"""The Frechet distance against its closed form, and against pytorch-fid's arithmetic."""

import numpy as np
import pytest
import scipy.linalg

from vilg.metrics.frechet import distance, factor, frechet_distance, small_set_warning
from vilg.metrics.statistics import FeatureStatistics
from vilg.types import UserError


def pytorch_fid(mean1, covariance1, mean2, covariance2):
    """The arithmetic of pytorch-fid and clean-fid: the real part of the product's matrix root."""
    root = scipy.linalg.sqrtm(covariance1 @ covariance2)
    assert np.isfinite(root).all()
    return (
        np.square(mean1 - mean2).sum()
        + np.trace(covariance1)
        + np.trace(covariance2)
        - 2 * np.trace(root.real)
    )


def features(n, d, seed, shift=0.0):
    """Features like those of Inception: not negative, with a spectrum over five decades."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).standard_normal((d, d)) * np.logspace(0, -2.5, d)[:, None]
    return np.maximum(rng.standard_normal((n, d)) @ mixing + 0.3 + shift, 0)


def of(rows):
    made = FeatureStatistics(rows.shape[1])
    made.update(rows)
    return made


def test_it_is_pytorch_fids_arithmetic():
    a, b = features(400, 64, 0), features(300, 64, 1, shift=0.1)
    moments = [m for x in (a, b) for m in (x.mean(0), np.cov(x, rowvar=False))]
    assert frechet_distance(of(a), of(b)) == pytest.approx(pytorch_fid(*moments), rel=1e-6)


def test_with_fewer_pictures_than_features_it_is_the_exact_value_that_the_root_approaches():
    a, b = features(20, 64, 0), features(30, 64, 1, shift=0.1)
    moments = [m for x in (a, b) for m in (x.mean(0), np.cov(x, rowvar=False))]
    found = frechet_distance(of(a), of(b))
    assert found == pytest.approx(pytorch_fid(*moments), rel=1e-3)
    centred = [
        (x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b)
    ]  # the root's trace is the nuclear norm of their product
    exact = np.square(a.mean(0) - b.mean(0)).sum() + sum(np.square(x).sum() for x in centred)
    exact -= 2 * np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    assert found == pytest.approx(exact, rel=1e-9)


def test_covariances_that_commute_have_a_closed_form():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((50, 50)))[0]
    one, two = rng.uniform(0.1, 4, 50), rng.uniform(0.1, 4, 50)
    means = rng.standard_normal((2, 50))
    found = distance(means[0], turn * one @ turn.T, means[1], turn * two @ turn.T)
    expected = np.square(means[0] - means[1]).sum() + np.square(np.sqrt(one) - np.sqrt(two)).sum()
    assert found == pytest.approx(expected, rel=1e-9)


def test_samples_of_gaussians_approach_the_closed_form():
    rng = np.random.default_rng(0)
    n, scale = 400_000, np.array([1.0, 2.0, 0.5])
    a, b = rng.standard_normal((n, 3)), 1.0 + rng.standard_normal((n, 3)) * scale
    expected = 3 + np.square(1 - scale).sum()
    assert frechet_distance(of(a), of(b)) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("n", [30, 400])
def test_a_set_is_at_zero_from_itself(n):
    a = of(features(n, 64, 0))
    assert frechet_distance(a, a) < 1e-9 * np.trace(a.covariance)


def test_the_factor_has_the_rank_of_the_covariance():
    rows = features(20, 64, 0)
    found = factor(np.cov(rows, rowvar=False))
    assert found.shape == (64, 19)
    np.testing.assert_allclose(found @ found.T, np.cov(rows, rowvar=False), atol=1e-12)
    assert factor(np.zeros((4, 4))).shape == (4, 0)


def test_different_widths_are_refused_and_small_sets_are_said():
    with pytest.raises(UserError, match="width 64 and 8"):
        frechet_distance(of(features(9, 64, 0)), of(features(9, 8, 0)))
    assert "1000 pictures, not more than the 2048 features" in small_set_warning(
        1000, 2048, "reference"
    )
    assert (
        small_set_warning(2049, 2048, "reference") == small_set_warning(0, 2048, "reference") == ""
    )
