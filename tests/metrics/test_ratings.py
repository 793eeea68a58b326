"""Win rates and means of votes that were made so that the answers are known."""

import numpy as np
import pytest

from vilg.metrics.ratings import RatedItem, Vote, comparisons, scores

MODELS = ("one", "two", "three")


def test_a_vote_counts_for_the_model_on_its_side():
    items = {
        "a": RatedItem(("one", "two"), "p"),
        "b": RatedItem(("two", "one"), "q"),
        "c": RatedItem(("two", "three"), "p"),
    }
    votes = [
        Vote("r", "a", "q", -1),
        Vote("s", "a", "q", -1),
        Vote("r", "b", "q", 1),
        Vote("s", "b", "q", 0),
        Vote("r", "c", "q", 1),
    ]
    first, second = comparisons(votes, items, MODELS, "nominal", resamples=100)
    assert (first["system"], first["against"], second["system"], second["against"]) == (
        "one",
        "two",
        "two",
        "three",
    )
    assert [first[k]["votes"] for k in ("win", "tie", "lose")] == [3, 1, 0]
    assert [first[k]["share"] for k in ("win", "tie", "lose")] == [0.75, 0.25, 0]
    assert first["win_rate"] == 0.875 and first["left"] == pytest.approx(2 / 3)
    assert (first["votes"], first["prompts"], first["raters"]) == (4, 2, 2)
    assert (
        [second[k]["votes"] for k in ("win", "tie", "lose")] == [0, 0, 1]
        and second["win_rate"] == 0
        and second["left"] == 0
    )
    assert second["alpha"] is None


def test_agreement_is_on_models_and_not_on_sides():
    """Both raters always prefer the same model, which changes sides.

    Raters who always choose the left side agree too, though they prefer neither model."""
    items = {
        str(i): RatedItem(("one", "two") if i % 2 else ("two", "one"), str(i)) for i in range(20)
    }
    better = [1 if i % 4 < 2 else -1 for i in range(20)]  # of "one"
    faithful = [
        Vote(r, str(i), "q", -b if i % 2 else b) for r in "rs" for i, b in enumerate(better)
    ]
    (row,) = comparisons(faithful, items, MODELS, "nominal", resamples=100)
    assert row["alpha"] == 1 and row["win_rate"] == 0.5 and row["left"] == 0.5
    always_left = [Vote("t", str(i), "q", -1) for i in range(20)]
    (row,) = comparisons(always_left, items, MODELS, "nominal", resamples=100)
    assert row["left"] == 1 and row["win_rate"] == 0.5
    lefts = always_left + [Vote("u", str(i), "q", -1) for i in range(20)]
    (row,) = comparisons(lefts, items, MODELS, "nominal", resamples=100)
    assert row["alpha"] == 1  # the values are of models, so that there are two of them


def test_the_interval_is_over_prompts():
    """Five raters who agree with each other are one observation a prompt, not five."""
    random = np.random.default_rng(0)
    items = {str(i): RatedItem(("one", "two"), str(i)) for i in range(100)}
    better = np.where(random.random(100) < 0.7, -1, 1)
    votes = [Vote(r, str(i), "q", int(b)) for r in "abcde" for i, b in enumerate(better)]
    one = comparisons(votes[:100], items, MODELS, "nominal")[0]
    five = comparisons(votes, items, MODELS, "nominal")[0]
    assert one["ci95"] == pytest.approx(five["ci95"], abs=1e-12)
    share = float((better == -1).mean())
    assert five["win_rate"] == pytest.approx(share)
    half = 1.96 * (share * (1 - share) / 100) ** 0.5
    assert five["ci95"] == pytest.approx([share - half, share + half], abs=0.015)
    assert five["win"]["ci95"] == five["ci95"] and five["tie"]["ci95"] == [0, 0]


def test_scores_are_means_of_each_model():
    items = {
        "a": RatedItem(("one",), "p"),
        "b": RatedItem(("two",), "p"),
        "c": RatedItem(("one",), "q"),
    }
    votes = [
        Vote("r", "a", "clarity", 5),
        Vote("s", "a", "clarity", 4),
        Vote("r", "c", "clarity", 1),
        Vote("r", "b", "clarity", 2),
    ]
    first, second = scores(votes, items, MODELS, "ordinal", resamples=2000)
    assert (
        first["system"] == "one"
        and first["mean"] == pytest.approx(10 / 3)
        and first["given"] == {"1": 1, "4": 1, "5": 1}
    )
    assert first["ci95"] == [1.0, 4.5]  # p twice, q twice
    assert (first["votes"], first["prompts"], first["raters"]) == (3, 2, 2)
    assert second["mean"] == 2 and second["ci95"] == [2, 2] and second["alpha"] is None


def test_questions_pooled_are_units_of_their_own():
    items = {"a": RatedItem(("one",), "p")}
    votes = [Vote(r, "a", q, v) for r in "rs" for q, v in (("clarity", 5), ("texture", 1))]
    (row,) = scores(votes, items, MODELS, "ordinal", resamples=100)
    assert row["mean"] == 3 and row["alpha"] == 1 and row["votes"] == 4
