"""The numbers of evaluators as one flat mapping, for logs, tables and ablations."""

from collections.abc import Mapping
from typing import Any


def numbers(evals: Mapping[str, Any], subject: Any) -> dict[str, float]:
    """The numbers of all evaluators about a subject, in one flat mapping: a group of one evaluator
    (by_language) does not replace another evaluator's group of the same name."""
    return {k: v for evaluate in evals.values() for k, v in flat(evaluate(subject)).items()}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers under joined names, a/b. Values that are not numbers are left out."""
    out: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            out[f"{prefix}{key}"] = float(value)
    return out
