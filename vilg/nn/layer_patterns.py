"""The pattern of every layer: rules that give a stack of so many layers their patterns' names.

Separate from patterns.py because a rule is an experiment's choice, while a pattern is a definition.
"""

from collections.abc import Callable, Sequence

from vilg.config import lookup, require
from vilg.nn.patterns import PATTERNS


def ernie_vilg(layers: int) -> tuple[str, ...]:
    """ERNIE-ViLG's rule (PAPERS 2.1): counted from 0, a layer attends by columns where its number
    divided by 4 leaves 1, by rows otherwise; the last layer attends by convolution.
    """
    return (*("column" if layer % 4 == 1 else "row" for layer in range(layers - 1)), "convolution")


def dense(layers: int) -> tuple[str, ...]:
    """Every layer attends to all that is visible."""
    return ("dense",) * layers


SCHEDULES: dict[str, Callable[[int], tuple[str, ...]]] = {"ernie_vilg": ernie_vilg, "dense": dense}


def schedule(kind: str | Sequence[str], layers: int) -> tuple[str, ...]:
    """A pattern's name for each layer, from the name of a rule or from a list of `layers` names.

    Errors: UserError for an unknown rule or pattern, or a list of another length.
    """
    require(
        isinstance(layers, int) and layers > 0, "layers", layers, "must be a positive whole number"
    )
    if isinstance(kind, str):
        return lookup(SCHEDULES, kind, "patterns")(layers)
    require(
        len(kind) == layers, "patterns", kind, f"needs one pattern for each of the {layers} layers"
    )
    for i, name in enumerate(kind):
        lookup(PATTERNS, name, f"patterns[{i}]")
    return tuple(kind)
