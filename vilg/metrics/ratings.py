"""Votes of human raters as numbers: win rates of pairs of models, mean scores of models, each with
interval and agreement.

A vote is (rater, item, question, value); what an item shows is known by its Shown. Where an item
shows two models' outputs, the value is -1, 0 or 1 for the first, neither, the second. Separate from
how votes are asked for and kept (vilg/run)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np

from vilg.metrics.agreement import alpha, bootstrap

Level = Literal["nominal", "ordinal"]


class Vote(NamedTuple):
    """One rater's answer to one question about one item."""

    rater: str
    item: str
    question: str
    value: int


@dataclass(frozen=True)
class Shown:
    """An item: the models whose outputs it shows (one, or two in their order on the screen), and
    the prompt that it counts under.
    """

    models: tuple[str, ...]
    prompt: str


def comparisons(
    votes: Sequence[Vote],
    items: Mapping[str, Shown],
    models: Sequence[str],
    level: Level,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """For each pair of models that votes compare: wins, ties and losses of the first with shares,
    its win rate (ties count as half), their 95 % intervals, alpha, and the share of decided votes
    that went to the picture on the left (0.5 if sides do not matter)."""
    rows = []
    for model, against in combinations(models, 2):
        own = [v for v in votes if set(items[v.item].models) == {model, against}]
        if not own:
            continue
        result = [v.value if items[v.item].models[1] == model else -v.value for v in own]
        columns = np.array([[r > 0, r == 0, r < 0, (r + 1) / 2] for r in result], np.float64)
        shares, limits = pooled(own, items, columns, resamples, seed)
        row: dict[str, Any] = {"system": model, "against": against}
        for i, name in enumerate(("win", "tie", "lose")):
            row[name] = {
                "votes": int(columns[:, i].sum()),
                "share": float(shares[i]),
                "ci95": limits[i],
            }
        decided = [v.value for v in own if v.value]
        row |= {"win_rate": float(shares[3]), "ci95": limits[3]} | counts(own, items)
        row["alpha"] = alpha(table(own, result), level)
        row["left"] = sum(v < 0 for v in decided) / len(decided) if decided else None
        rows.append(row)
    return rows


def scores(
    votes: Sequence[Vote],
    items: Mapping[str, Shown],
    models: Sequence[str],
    level: Level,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """For each model its mean score with the 95 % interval, how often each value was given, and
    alpha.
    """
    rows = []
    for model in models:
        own = [v for v in votes if items[v.item].models == (model,)]
        if not own:
            continue
        values = [v.value for v in own]
        mean, limits = pooled(own, items, np.array(values, np.float64)[:, None], resamples, seed)
        given = {str(value): values.count(value) for value in sorted(set(values))}
        row = {"system": model, "mean": float(mean[0]), "ci95": limits[0], "given": given}
        rows.append(row | counts(own, items) | {"alpha": alpha(table(own, values), level)})
    return rows


def pooled(
    votes: Sequence[Vote],
    items: Mapping[str, Shown],
    columns: np.ndarray,
    resamples: int,
    seed: int,
) -> tuple[np.ndarray, list[list[float]]]:
    """The mean over all votes of each column (a row a vote), and its interval over prompts."""
    prompts, place = np.unique([items[v.item].prompt for v in votes], return_inverse=True)
    sums = np.zeros((len(prompts), columns.shape[1]))
    np.add.at(sums, place, columns)
    number = np.bincount(place).astype(np.float64)
    limits = bootstrap(sums, number, resamples=resamples, seed=seed)
    return sums.sum(0) / number.sum(), limits.T.tolist()


def counts(votes: Sequence[Vote], items: Mapping[str, Shown]) -> dict[str, int]:
    """How many votes, prompts and raters."""
    return {
        "votes": len(votes),
        "prompts": len({items[v.item].prompt for v in votes}),
        "raters": len({v.rater for v in votes}),
    }


def table(votes: Sequence[Vote], values: Sequence[int]) -> np.ndarray:
    """[raters, units], NaN where a rater did not answer; a unit is a question about an item."""
    raters = {rater: i for i, rater in enumerate(sorted({v.rater for v in votes}))}
    units = {unit: i for i, unit in enumerate(sorted({(v.item, v.question) for v in votes}))}
    out = np.full((len(raters), len(units)), np.nan)
    for vote, value in zip(votes, values, strict=True):
        out[raters[vote.rater], units[vote.item, vote.question]] = value
    return out
