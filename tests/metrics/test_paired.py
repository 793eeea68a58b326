"""The paired comparison equals McNemar's exact test for one seed, and is right where there is no
difference, where there is one, and where seeds disagree."""

import numpy as np
import pytest
import scipy.stats

from vilg.metrics.paired import holm, paired


def outcomes(rate: float, seeds: int, n: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((seeds, n)) < rate).astype(np.float64)


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.6, 0.45), (0.9, 0.2)])
def test_one_seed_is_mcnemars_exact_test(rates: tuple[float, float]) -> None:
    a, b = outcomes(rates[0], 1, 120, 1), outcomes(rates[1], 1, 120, 2)
    found = paired(a, b)
    exact = scipy.stats.binomtest(found.wins, found.wins + found.losses).pvalue
    assert found.p == pytest.approx(exact, abs=0.012)
    assert found.wins + found.ties + found.losses == 120


def test_two_trainings_of_one_config_do_not_differ() -> None:
    """At equal rates at most the level's share of findings is false (200 comparisons of 60
    prompts)."""
    found = [
        paired(outcomes(0.5, 1, 60, 2 * k), outcomes(0.5, 1, 60, 2 * k + 1)).verdict()
        for k in range(200)
    ]
    assert sum(v != "no significant difference" for v in found) <= 20


def test_a_worse_system_is_told() -> None:
    """A system at chance, as one trained on other pictures' captions, against one that reads its
    captions."""
    found = paired(outcomes(0.1, 3, 100, 5), outcomes(0.8, 3, 100, 6))
    assert found.verdict() == "worse" and found.interval[1] < 0
    assert found.interval_seeds is not None and found.interval_seeds[1] < 0


def test_seeds_that_disagree_are_no_finding() -> None:
    """A wins by far from one seed and loses from two; prompts alone would report a finding."""
    a, b = np.zeros((3, 200)), np.zeros((3, 200))
    a[0], b[1, :30], b[2, :30] = 1.0, 1.0, 1.0
    found = paired(a, b)
    assert found.p < 0.01 and found.verdict() == "no significant difference"


def test_intervals_hold_the_truth() -> None:
    """The 95 % interval over prompts covers a difference of .2 in about 95 of 100 draws."""
    held = 0
    for k in range(100):
        low, high = paired(
            outcomes(0.6, 1, 100, 1000 + k), outcomes(0.4, 1, 100, 2000 + k)
        ).interval
        held += low <= 0.2 <= high
    assert held >= 88


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        paired(np.zeros((1, 0)), np.zeros((1, 0)))
