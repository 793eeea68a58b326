"""The closed list of logical axis names: one name a meaning. Parameters and activations use the
same names.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

AXES = frozenset(
    "batch length embed heads head_dim mlp vocab codebook code layers expert expert_batch rows"
    " columns channels_in channels_out time".split()
)


def check_axes(axes: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """The axes, unless one is misspelt."""
    unknown = [a for a in axes if a is not None and a not in AXES]
    if unknown:
        raise ValueError(
            f"unknown logical axis {unknown[0]!r}; the list is {', '.join(sorted(AXES))}"
        )
    return axes


def named(init: Callable, *axes: str | None) -> Callable:
    """A parameter initializer whose result carries a logical axis name for each dimension (None:
    never sharded).
    """
    return nn.with_logical_partitioning(init, check_axes(axes))


def is_box(x: Any) -> bool:
    """Whether x is a parameter boxed with its logical axes."""
    return isinstance(x, nn.LogicallyPartitioned)


def is_axes(x: Any) -> bool:
    """Whether x is a tuple of logical axes, as axes_of gives for a leaf."""
    return isinstance(x, tuple) and all(a is None or isinstance(a, str) for a in x)


def unbox(tree: Any) -> Any:
    """The tree without its boxes."""
    return jax.tree.map(lambda x: x.value if is_box(x) else x, tree, is_leaf=is_box)


def axes_of(boxed: Any) -> Any:
    """A tuple of logical axes for each boxed leaf."""
    return jax.tree.map(lambda b: tuple(b.names), boxed, is_leaf=is_box)


def lengths(boxed: Any) -> dict[str, int]:
    """The length of each logical axis in the parameters (the longest, where arrays differ)."""
    found: dict[str, int] = {}
    for box in jax.tree.leaves(boxed, is_leaf=is_box):
        for axis, size in zip(box.names, box.value.shape, strict=True):
            if axis is not None:
                found[axis] = max(size, found.get(axis, 1))
    return found
