"""Runs evaluators, and gives their numbers as flat mappings and rows, for logs, tables and model
cards."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vilg import stage


def results_of(
    evaluators: Mapping[str, Any], model: object, when: str = ""
) -> dict[str, dict[str, Any]]:
    """What each evaluator measures of the model; `when` ends the name of the stage."""
    results = {}
    for name, evaluate in evaluators.items():
        stage.enter(f"evaluating {name}{when}")
        results[name] = evaluate(model)
    return results


def flat_results(results: Mapping[str, Mapping[str, object]]) -> dict[str, float]:
    """The numbers of several evaluators in one flat mapping. A group of one evaluator (by_language)
    does not replace another evaluator's group of the same name."""
    return {name: value for result in results.values() for name, value in flat(result).items()}


def flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """Nested numbers under joined names, a/b. Values that are not numbers are left out."""
    out: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            out[f"{prefix}{key}"] = float(value)
    return out


def with_intervals(
    tree: Mapping[str, Any], prefix: str = "", limits: Any = None
) -> Iterator[tuple[str, float, Sequence[float] | None]]:
    """(name, value, 95 % interval or None) of an evaluator's numbers.

    The interval of `name` is in `name_ci95`, or in `ci95`, which holds one interval for the whole
    group or intervals by the group's names. A number inside a group is left out if no number of
    that group has an interval: such groups hold details (single attributes, noise levels)."""
    intervals = tree.get("ci95", limits)
    rows, groups = [], []
    for name, value in tree.items():
        limits = intervals.get(name) if isinstance(intervals, Mapping) else intervals
        if name in ("ci95", "n") or name.endswith("_ci95"):
            continue
        if isinstance(value, Mapping):
            groups.append((name, value, limits))
        elif isinstance(value, int | float):
            rows.append((f"{prefix}{name}", float(value), tree.get(f"{name}_ci95", limits)))
    if not prefix or any(interval is not None for _, _, interval in rows):
        yield from rows
    for name, value, limits in groups:
        yield from with_intervals(value, f"{prefix}{name}/", limits)
