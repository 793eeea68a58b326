"""The closed list of logical axes: names for the dimensions of parameters and of activations.

Each name has one meaning, and parameters and activations use the same names."""

from collections.abc import Callable
from typing import TypeGuard

import flax.linen as nn
import jax
from jaxtyping import PyTree

AXES = frozenset(
    "batch length embed heads head_dim mlp vocab codebook code layers expert expert_batch rows"
    " columns channels_in channels_out time".split()
)
Axes = tuple[str | None, ...]  # one logical axis a dimension; None: never sharded


def check_axes(axes: Axes) -> Axes:
    """The axes themselves. Errors: ValueError for a name that is not in AXES."""
    unknown = [a for a in axes if a is not None and a not in AXES]
    if unknown:
        raise ValueError(
            f"unknown logical axis {unknown[0]!r}; the list is {', '.join(sorted(AXES))}"
        )
    return axes


def named(init: Callable, *axes: str | None) -> Callable:
    """A parameter initializer whose result is boxed with a logical axis for each dimension."""
    return nn.with_logical_partitioning(init, check_axes(axes))


def is_box(x: object) -> TypeGuard[nn.LogicallyPartitioned]:
    """Whether x is a parameter boxed with its logical axes."""
    return isinstance(x, nn.LogicallyPartitioned)


def is_axes(x: object) -> TypeGuard[Axes]:
    """Whether x is a leaf of the tree that `axes_of` returns."""
    return isinstance(x, tuple) and all(a is None or isinstance(a, str) for a in x)


def unbox(tree: PyTree) -> PyTree:
    """A pytree without its boxes."""
    return jax.tree.map(lambda x: x.value if is_box(x) else x, tree, is_leaf=is_box)


def axes_of(boxed: PyTree) -> PyTree:
    """The pytree of the logical axes (Axes) of boxed parameters."""
    return jax.tree.map(lambda b: tuple(b.names), boxed, is_leaf=is_box)


def axis_lengths(boxed: PyTree) -> dict[str, int]:
    """The length of each logical axis in boxed parameters; the largest, where arrays differ."""
    longest: dict[str, int] = {}
    for box in jax.tree.leaves(boxed, is_leaf=is_box):
        for axis, size in zip(box.names, box.value.shape, strict=True):
            if axis is not None:
                longest[axis] = max(size, longest.get(axis, 1))
    return longest
