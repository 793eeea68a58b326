"""Numbers of evaluators as one flat mapping, as logs, tables and ablations want them."""

from collections.abc import Mapping
from typing import Any


def numbers(evals: Mapping[str, Any], subject: Any) -> dict[str, float]:
    """What all evaluators say of a subject. A group of one (by_language) does not replace that of
    another.
    """
    return {k: v for evaluate in evals.values() for k, v in flat(evaluate(subject)).items()}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers as a/b names; what is not a number stays out."""
    out: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            out[f"{prefix}{key}"] = float(value)
    return out
