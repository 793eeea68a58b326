"""Agreement and intervals against their definitions: pairs of ratings one by one, closed forms, and
SciPy's bootstrap."""

from itertools import permutations

import numpy as np
import pytest
import scipy.stats

from vilg.metrics.agreement import alpha, bootstrap

# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section C: four observers,
# twelve units, missing ratings
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, np.nan, np.nan, np.nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, np.nan, 3],
        [np.nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, np.nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, np.nan],
    ]
)


def by_pairs(ratings: np.ndarray, level: str) -> float:
    """Alpha from its definition.

    It compares the mean difference within units with the mean difference between any two ratings
    that can be paired."""
    units = [[r for r in unit if not np.isnan(r)] for unit in ratings.T]
    units = [unit for unit in units if len(unit) >= 2]
    every = [r for unit in units for r in unit]

    def difference(a: float, b: float) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (a - b) ** 2
        between = sum(min(a, b) <= r <= max(a, b) for r in every)
        return 0.0 if a == b else (between - (every.count(a) + every.count(b)) / 2) ** 2

    within = sum(
        difference(a, b) / (len(unit) - 1) for unit in units for a, b in permutations(unit, 2)
    ) / len(every)
    between = sum(difference(a, b) for a, b in permutations(every, 2)) / (
        len(every) * (len(every) - 1)
    )
    return 1 - within / between


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_the_published_example(level, published):
    assert alpha(PUBLISHED, level) == pytest.approx(published, abs=5e-4)
    assert alpha(PUBLISHED, level) == pytest.approx(by_pairs(PUBLISHED, level), abs=1e-12)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_its_definition_with_missing_ratings(level, seed):
    random = np.random.default_rng(seed)
    ratings = random.integers(-1, 4, (5, 30)).astype(float)
    ratings[random.random(ratings.shape) < 0.4] = np.nan
    ratings[:, 0] = np.nan  # nobody rated
    assert alpha(ratings, level) == pytest.approx(by_pairs(ratings, level), abs=1e-12)


def test_alpha_of_full_agreement_of_chance_and_of_nothing():
    some = np.random.default_rng(0).integers(0, 3, 50).astype(float)
    assert alpha(np.stack([some] * 4), "ordinal") == 1
    chance = np.random.default_rng(1).integers(0, 2, (2, 20_000)).astype(float)
    assert abs(alpha(chance, "nominal")) < 0.03
    # two raters who never agree, on as many of either value: disagreement 1, expected n / (2n - 1)
    # for n units of two ratings
    n = 10
    opposed = np.stack([np.arange(n) % 2, 1 - np.arange(n) % 2]).astype(float)
    assert alpha(opposed, "nominal") == pytest.approx(1 - (2 * n - 1) / n)
    assert alpha(np.ones((3, 4)), "nominal") is None
    assert alpha(np.array([[1.0, np.nan], [np.nan, 2.0]]), "ordinal") is None
    assert alpha(np.full((2, 3), np.nan), "nominal") is None


def test_the_bootstrap_draws_prompts_with_all_their_votes():
    """SciPy bootstraps the same ratio over the same clusters.

    Both are random; they differ by much less than from a bootstrap over votes."""
    random = np.random.default_rng(3)
    counts = random.integers(1, 9, 60).astype(float)
    sums = counts * (random.random(60) < 0.5)  # the votes on a prompt are unanimous
    found = bootstrap(sums[:, None], counts, resamples=20_000)[:, 0]
    ratio = lambda s, c, axis: s.sum(axis) / c.sum(axis)  # noqa: E731
    scipys = scipy.stats.bootstrap(
        (sums, counts),
        ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=random,
    )
    np.testing.assert_allclose(found, scipys.confidence_interval, atol=0.006)
    votes = np.repeat(sums / counts, counts.astype(int))
    naive = bootstrap(votes[:, None], np.ones(len(votes)), resamples=20_000)[:, 0]
    assert found[1] - found[0] > 1.6 * (naive[1] - naive[0])


def test_the_bootstrap_of_a_share_is_the_binomials():
    """With one vote a prompt the number of wins is binomial, and its quantiles are known."""
    n, p = 400, 0.3
    sums = np.zeros((n, 2))
    sums[: int(n * p), 0] = 1
    sums[:, 1] = 5
    low, high = bootstrap(sums, np.ones(n), resamples=20_000, seed=1)
    np.testing.assert_allclose(
        [low[0], high[0]], scipy.stats.binom.ppf([0.025, 0.975], n, p) / n, atol=1.5 / n
    )
    assert low[1] == high[1] == 5
    np.testing.assert_array_equal(
        bootstrap(sums, np.ones(n), seed=1), bootstrap(sums, np.ones(n), seed=1)
    )
