"""Somebody else's state dict, taken apart by name: what is missing, of another shape or left over
is a UserError that names it.

Separate from the networks that are filled so (inception.py, clip.py), which share nothing else.
Files are read by codecs/weights.py."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vilg.types import Params, UserError


class Published:
    """The arrays of a file, each to be taken once. `what` is the network that the file should be
    of, for the sentence.
    """

    def __init__(self, state: Mapping[str, np.ndarray], what: str, path: str):
        self.state, self.what, self.path = dict(state), what, path

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array as float32. Errors: UserError if it is not there or has another shape."""
        if name not in self.state:
            raise self.misfit(f"has no {name}")
        found = self.state.pop(name)
        if tuple(found.shape) != shape:
            raise self.misfit(f"{name} has shape {tuple(found.shape)}, expected {shape}")
        return np.asarray(found, np.float32)

    def finish(self, ignored: tuple[str, ...] = ()) -> None:
        """Errors: UserError for an array that nobody took, except those whose names end in one of
        `ignored`.
        """
        left = [name for name in self.state if not name.endswith(ignored)]
        if left:
            raise self.misfit(f"also holds {left[0]}")

    def misfit(self, why: str) -> UserError:
        """The sentence about a file of another network."""
        return UserError(f"weights={self.path!r}: {why}; give the weights of {self.what}")


def paths(shapes: Params) -> dict[tuple[str, ...], tuple[int, ...]]:
    """{path in the parameters: shape} of what jax.eval_shape gave."""
    return {
        tuple(k.key for k in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }


def nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """{path: array} as nested dicts."""
    out: dict[str, Any] = {}
    for path, array in flat.items():
        node = out
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = array
    return out
