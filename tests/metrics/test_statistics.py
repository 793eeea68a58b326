"""Statistics of batches equal np.cov of all rows however they are cut; files; the index of a row
that is not finite."""

import numpy as np
import pytest

from vilg.metrics.statistics import FeatureStatistics, UncountedStatistics
from vilg.types import UserError


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return (1000.0 + rng.standard_normal((1500, 7)) @ rng.standard_normal((7, 7))).astype(
        np.float32
    )


def streamed(rows, size):
    made = FeatureStatistics(rows.shape[1], {"extractor": "x"})
    for i in range(0, len(rows), size):
        made.update(rows[i : i + size])
    return made


def assert_same(made, rows):
    assert made.count == len(rows)
    np.testing.assert_allclose(made.mean, rows.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        made.covariance, np.cov(rows.astype(np.float64), rowvar=False), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("size", [1, 13, 512, 1500])
def test_streamed_is_whole(size, rows):
    assert_same(streamed(rows, size), rows)


def test_one_is_four_shards(rows):
    shards = [streamed(part, 17) for part in (rows[:3], rows[3:700], rows[700:701], rows[701:])]
    whole = FeatureStatistics(7)
    for shard in shards:
        whole.merge(shard)
    assert_same(whole, rows)


def test_a_file_gives_back_what_was_saved(rows, tmp_path):
    made = streamed(rows[:900], 64)
    made.save(tmp_path / "s.npz")
    again = FeatureStatistics.load(tmp_path / "s.npz")
    assert again.identity == {"extractor": "x"}
    assert_same(again, rows[:900])
    again.update(rows[900:])
    np.testing.assert_allclose(
        again.covariance, np.cov(rows.astype(np.float64), rowvar=False), rtol=1e-9, atol=1e-9
    )


def test_a_pytorch_fid_file_has_no_count(rows, tmp_path):
    np.savez(tmp_path / "theirs.npz", mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    theirs = FeatureStatistics.load(tmp_path / "theirs.npz")
    assert isinstance(theirs, UncountedStatistics) and theirs.count == 0
    np.testing.assert_array_equal(theirs.covariance, np.cov(rows, rowvar=False))
    with pytest.raises(UserError, match="of how many pictures"):
        theirs.update(rows)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mean": np.zeros(3)}, "holds no statistics"),
        ({"mu": np.zeros(3), "sigma": np.zeros((2, 2))}, "sigma"),
        ({"mu": np.zeros(2), "sigma": np.full((2, 2), np.nan)}, "not finite"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(arrays, words, tmp_path):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(UserError, match=words):
        FeatureStatistics.load(tmp_path / "s.npz")


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "s.npz").write_bytes(b"x")
    with pytest.raises(UserError, match="reference=.*holds no statistics"):
        FeatureStatistics.load(tmp_path / "s.npz")


def test_a_row_that_is_not_finite_is_named_by_its_place_in_the_stream(rows):
    made = streamed(rows[:1030], 100)
    wrong = rows[:5].copy()
    wrong[3, 2] = np.nan
    with pytest.raises(UserError, match="picture 1033: not finite"):
        made.update(wrong)


def test_other_widths_and_too_few_rows_are_refused(rows):
    with pytest.raises(UserError, match="width 7"):
        FeatureStatistics(7).update(rows[:, :5])
    with pytest.raises(UserError, match="width 6"):
        FeatureStatistics(7).merge(FeatureStatistics(6))
    with pytest.raises(UserError, match="needs at least 2"):
        _ = streamed(rows[:1], 1).covariance
