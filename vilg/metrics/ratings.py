"""Votes of human raters as numbers: win rates of pairs of models and mean scores of models, each
with its interval and the raters' agreement.

A vote is (rater, item, question, value), and a RatedItem says what an item shows. Where an item
shows the outputs of two models, a value of -1, 0 or 1 prefers the first, neither, or the second.
vilg/run/judge asks for votes and stores them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from vilg.metrics.agreement import alpha, bootstrap

Level = Literal["nominal", "ordinal"]


class Vote(NamedTuple):
    """One rater's answer to one question about one item."""

    rater: str
    item: str
    question: str
    value: int


@dataclass(frozen=True)
class RatedItem:
    """The outputs that an item of a study shows."""

    models: tuple[str, ...]  # one, or two in their order on the screen
    prompt: str  # the prompt of the outputs, which is the cluster of the bootstrap


def comparisons(
    votes: Sequence[Vote],
    items: Mapping[str, RatedItem],
    models: Sequence[str],
    level: Level,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row for each pair of models that votes compare, for the first of the two models.

    A row has its wins, ties and losses with their shares, its win rate (a tie counts half), 95 %
    intervals, Krippendorff's alpha, and the share of decided votes that went to the picture on the
    left (0.5 if sides do not matter)."""
    rows = []
    for model, against in combinations(models, 2):
        pair = [v for v in votes if set(items[v.item].models) == {model, against}]
        if not pair:
            continue
        result = [v.value if items[v.item].models[1] == model else -v.value for v in pair]
        columns = np.array([[r > 0, r == 0, r < 0, (r + 1) / 2] for r in result], np.float64)
        shares, limits = means_over_votes(pair, items, columns, resamples, seed)
        row: dict[str, object] = {"system": model, "against": against}
        for i, name in enumerate(("win", "tie", "lose")):
            row[name] = {
                "votes": int(columns[:, i].sum()),
                "share": float(shares[i]),
                "ci95": limits[i],
            }
        decided = [v.value for v in pair if v.value]
        row |= {"win_rate": float(shares[3]), "ci95": limits[3]} | counts(pair, items)
        row["alpha"] = alpha(reliability_matrix(pair, result), level)
        row["left"] = sum(v < 0 for v in decided) / len(decided) if decided else None
        rows.append(row)
    return rows


def scores(
    votes: Sequence[Vote],
    items: Mapping[str, RatedItem],
    models: Sequence[str],
    level: Level,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row for each model: its mean score with the 95 % interval, how often each value was
    given, and Krippendorff's alpha.
    """
    rows = []
    for model in models:
        alone = [v for v in votes if items[v.item].models == (model,)]
        if not alone:
            continue
        values = [v.value for v in alone]
        column = np.array(values, np.float64)[:, None]
        mean, limits = means_over_votes(alone, items, column, resamples, seed)
        given = {str(value): values.count(value) for value in sorted(set(values))}
        row = {"system": model, "mean": float(mean[0]), "ci95": limits[0], "given": given}
        agreement = alpha(reliability_matrix(alone, values), level)
        rows.append(row | counts(alone, items) | {"alpha": agreement})
    return rows


def means_over_votes(
    votes: Sequence[Vote],
    items: Mapping[str, RatedItem],
    columns: Float[np.ndarray, "votes k"],
    resamples: int,
    seed: int,
) -> tuple[Float[np.ndarray, " k"], list[list[float]]]:
    """The mean of each column over all votes, and its 95 % interval over prompts."""
    prompts, place = np.unique([items[v.item].prompt for v in votes], return_inverse=True)
    sums = np.zeros((len(prompts), columns.shape[1]))
    np.add.at(sums, place, columns)
    number = np.bincount(place).astype(np.float64)
    limits = bootstrap(sums, number, resamples=resamples, seed=seed)
    return sums.sum(0) / number.sum(), limits.T.tolist()


def counts(votes: Sequence[Vote], items: Mapping[str, RatedItem]) -> dict[str, int]:
    """The numbers of votes, prompts and raters."""
    return {
        "votes": len(votes),
        "prompts": len({items[v.item].prompt for v in votes}),
        "raters": len({v.rater for v in votes}),
    }


def reliability_matrix(
    votes: Sequence[Vote], values: Sequence[int]
) -> Float[np.ndarray, "raters units"]:
    """The values by rater and unit (a question about an item), NaN where a rater did not answer."""
    raters = {rater: i for i, rater in enumerate(sorted({v.rater for v in votes}))}
    units = {unit: i for i, unit in enumerate(sorted({(v.item, v.question) for v in votes}))}
    out = np.full((len(raters), len(units)), np.nan)
    for vote, value in zip(votes, values, strict=True):
        out[raters[vote.rater], units[vote.item, vote.question]] = value
    return out
