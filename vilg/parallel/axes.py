"""The closed list of logical axis names: one name a meaning. Parameters and activations use the same names."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

AXES = frozenset(
    "batch length embed heads head_dim mlp vocab codebook code layers expert expert_batch rows columns channels_in channels_out time".split()
)


def check_axes(axes: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """The axes, unless one is misspelt."""
    unknown = [a for a in axes if a is not None and a not in AXES]
    if unknown:
        raise ValueError(f"unknown logical axis {unknown[0]!r}; the list is {', '.join(sorted(AXES))}")
    return axes


def named(init: Callable, *axes: str | None) -> Callable:
    """A parameter initializer whose result carries a logical axis name for each dimension (None: never sharded)."""
    return nn.with_logical_partitioning(init, check_axes(axes))


def is_box(x: Any) -> bool:
    """Whether x is a parameter boxed with its logical axes."""
    return isinstance(x, nn.LogicallyPartitioned)
