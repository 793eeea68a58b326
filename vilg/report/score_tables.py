"""Tables of the report page: scores with their intervals, targets and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vilg.data.scenes.captions import LANGUAGES
from vilg.report.trial_cards import CELLS, GeneratorView

# Keys of scores and their labels on the page.
MEASURES = {
    "single_object": "Sample, one object: colour and shape right",
    "two_objects": "Sample, two objects: everything right",
    "captions_exact": "Caption exactly right, one object",
    "captions_exact_two": "Caption exactly right, two objects",
}
CODEC = {
    "two_objects": "Reconstruction of two objects: everything still right",
    "codebook_usage": "Codebook usage",
}
PAIRS = {"seen": "Seen colour–shape pairs", "held_out": "Held-out pairs, never seen in training"}
PARTS = {
    "readable": "can be read",
    "count": "number of objects",
    "colour": "colours",
    "shape": "shapes",
    "colour_and_shape": "colour on the right shape",
    "size": "sizes",
    "relation": "relation",
    "everything": "everything",
}


@dataclass(frozen=True)
class Target:
    """The share that a score must reach, and the share that is aimed at."""

    required: float
    aim: float | None = None

    def verdict(self, value: float) -> str:
        """Whether a score meets the target, in words."""
        if value < self.required:
            return "not met"
        if self.aim is None:
            return "met"
        return "aim met" if value >= self.aim else "required met, aim not"


@dataclass(frozen=True)
class ScoreCell:
    """One score of a table."""

    value: float
    interval: Sequence[float] | None  # 95 %
    n: int | None
    target: Target | None
    state: str  # the target's verdict; "" without a target


@dataclass(frozen=True)
class ScoreRow:
    """One measure of a table, with a cell for each column; None was not measured."""

    label: str
    targets: Sequence[Target]
    cells: Sequence[ScoreCell | None]


def score_cell(
    scores: Mapping[str, Any], pairs: str, key: str, target: Target | None = None
) -> ScoreCell | None:
    """A share with its interval, n and verdict; None where it was not measured."""

    def at(tree: Mapping[str, Any]) -> Any:
        return (tree.get("held_out", {}) if pairs == "held_out" else tree).get(key)

    value = at(scores)
    if value is None:
        return None
    interval, n = at(scores.get("ci95", {})), at(scores.get("n", {}))
    return ScoreCell(value, interval, n, target, target.verdict(value) if target else "")


def score_rows(
    scores: Mapping[str, Any],
    generators: Sequence[GeneratorView],
    pairs: str,
    targets: Mapping[str, Target],
) -> list[ScoreRow]:
    """The measures of generators, one a column; only seen pairs have targets."""
    rows = []
    for key, label in MEASURES.items():
        goals = [targets.get(f"{g.name}/{key}") if pairs == "seen" else None for g in generators]
        cells = [
            score_cell(scores.get(g.name, {}), pairs, key, goal)
            for g, goal in zip(generators, goals, strict=True)
        ]
        if any(cells):
            rows.append(ScoreRow(label, [g for g in goals if g], cells))
    return rows


def codec_rows(codec: Mapping[str, object], targets: Mapping[str, Target]) -> list[ScoreRow]:
    """The measures of the codec."""
    rows = []
    for key, label in CODEC.items():
        target = targets.get(f"codec/{key}")
        cell = score_cell(codec, "seen", key, target)
        if cell:
            rows.append(ScoreRow(label, [target] if target else [], [cell]))
    return rows


def language_rows(
    scores: Mapping[str, Any], generators: Sequence[GeneratorView], pairs: str
) -> list[ScoreRow]:
    """The measures of generators, with a column for each generator and language."""
    rows = []
    for key, label in MEASURES.items():
        by_language = [scores.get(g.name, {}).get("by_language", {}) for g in generators]
        cells = [
            score_cell(languages.get(language, {}), pairs, key)
            for languages in by_language
            for language in LANGUAGES
        ]
        if any(cells):
            rows.append(ScoreRow(label, [], cells))
    return rows


def part_table(parts: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    """The share of samples in which each part of the prompt is right: a column a cell of prompts,
    a row a part. One object has no relation.
    """
    cells = [cell for cell in CELLS if cell in parts]
    measured = [part for part in PARTS if any(part in parts[cell] for cell in cells)]
    rows = [
        (
            PARTS[part],
            [
                None if part == "relation" and "two" not in cell else parts[cell].get(part)
                for cell in cells
            ],
        )
        for part in measured
    ]
    return {"columns": [CELLS[cell] for cell in cells], "rows": rows}
