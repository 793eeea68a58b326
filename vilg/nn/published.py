"""A published state dict, taken apart by name: an array that is missing, has another shape or is
left over is a UserError that names it.

Separate from the networks that read their parameters so (inception.py, clip.py), which share
nothing else. Files are read by codecs/weights.py.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vilg.types import UserError

Path = tuple[str, ...]  # the keys from a tree of parameters to one array


class Published:
    """The arrays of a file, each to be taken once. `network` names the network whose file it should
    be, for the error message.
    """

    def __init__(self, state: Mapping[str, np.ndarray], network: str, path: str):
        self.state, self.network, self.path = dict(state), network, path

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array as float32. Errors: UserError if it is missing or has another shape."""
        if name not in self.state:
            raise self.misfit(f"has no {name}")
        array = self.state.pop(name)
        if tuple(array.shape) != shape:
            raise self.misfit(f"{name} has shape {tuple(array.shape)}, expected {shape}")
        return np.asarray(array, np.float32)

    def finish(self, ignored: tuple[str, ...] = ()) -> None:
        """Raises a UserError for an array that was not taken, except those whose names end in one
        of `ignored`.
        """
        left = [name for name in self.state if not name.endswith(ignored)]
        if left:
            raise self.misfit(f"also holds {left[0]}")

    def misfit(self, why: str) -> UserError:
        """The error about a file of another network."""
        return UserError(f"weights={self.path!r}: {why}; give the weights of {self.network}")


def shapes_by_path(module: nn.Module, *inputs: jax.ShapeDtypeStruct) -> dict[Path, tuple[int, ...]]:
    """The shape of each of the module's parameters; allocates nothing."""
    variables: Any = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    return {tuple(key.key for key in keys): leaf.shape for keys, leaf in leaves}


def nested(arrays: Mapping[Path, np.ndarray]) -> dict[str, Any]:
    """{path: array} as nested dicts."""
    out: dict[str, Any] = {}
    for path, array in arrays.items():
        node = out
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = array
    return out
