"""LPIPS with VGG16 from given weights (Zhang et al. 2018; PAPERS 3.4): a distance between images
that compares features instead of pixels.

Separate because these weights belong to no model: they are read once from a file, they are never
trained, and no checkpoint holds them. vilg ships no such file; without one the codec leaves this
term out and says so.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vilg.codecs.weights import read
from vilg.types import UserError

# channels of VGG16's convolutions between its max-pools
WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
PREFIXES = ("loss.perceptual_loss.", "perceptual_loss.", "module.")
Weights = np.ndarray | Array


@dataclass(frozen=True)
class LPIPS:
    """The network. `levels` holds the convolutions (kernel [3, 3, i, o], bias [o]) of each of five
    levels, `heads` the weights [c] of each level's channels.
    """

    levels: tuple[tuple[tuple[Weights, Weights], ...], ...]
    heads: tuple[Weights, ...]

    def __call__(
        self, a: Float[Array, "b H W 3"], b: Float[Array, "b H W 3"]
    ) -> Float[Array, " b"]:
        """The distance of each pair of images in [-1, 1]."""
        both = (jnp.concatenate([a, b]) - jnp.asarray(SHIFT)) / jnp.asarray(SCALE)
        distance = jnp.zeros(a.shape[0], jnp.float32)
        for i, (level, head) in enumerate(zip(self.levels, self.heads, strict=True)):
            if i > 0:
                both = jax.lax.reduce_window(
                    both, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
                )
            for kernel, bias in level:
                # without the barrier XLA spends its time on flipping constants for the gradient
                kernel = jax.lax.optimization_barrier(jnp.asarray(kernel))
                both = jax.lax.conv_general_dilated(
                    both, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                both = jax.nn.relu(both + jnp.asarray(bias))
            squares = jnp.sum(jnp.square(both), axis=-1, keepdims=True)
            # Where all features are 0 the root has no finite gradient, but there the ReLU before it
            # passes no gradient on.
            first, second = jnp.split(both / (jnp.sqrt(squares) + 1e-10), 2)
            distance += jnp.mean(
                jnp.sum(jnp.square(first - second) * jnp.asarray(head), axis=-1), axis=(1, 2)
            )
        return distance


@functools.lru_cache(maxsize=2)
def load(path: str) -> LPIPS:
    """LPIPS from a .npz, .safetensors or torch file with the keys of LPIPS-VGG:
    `net.slice{1-5}.{n}.weight` (or torchvision's `features.{n}.weight`) and
    `lin{0-4}.model.1.weight`.

    Errors: UserError naming a key that is missing or has another shape.
    """
    return from_state(read(path, "codec.perceptual"), path)


def from_state(state: Mapping[str, np.ndarray], path: str = "weights") -> LPIPS:
    """LPIPS from a state dict in the published layout."""
    short = {functools.reduce(str.removeprefix, PREFIXES, k): v for k, v in state.items()}

    def take(names: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
        array = next((short[n] for n in names if n in short), None)
        if array is None:
            raise UserError(
                f"codec.perceptual={path!r}: has no {names[0]!r}; give a file in the LPIPS-VGG"
                " layout, or leave it empty"
            )
        if array.shape != shape:
            raise UserError(
                f"codec.perceptual={path!r}: {names[0]} has shape {array.shape}, expected {shape}"
            )
        return np.asarray(array, np.float32)

    levels, index, channels = [], 0, 3
    for level, widths in enumerate(WIDTHS):
        convolutions = []
        for width in widths:
            stems = (f"net.slice{level + 1}.{index}", f"features.{index}", f"net.features.{index}")
            kernel = take(tuple(f"{s}.weight" for s in stems), (width, channels, 3, 3))
            convolutions.append(
                (
                    np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)),
                    take(tuple(f"{s}.bias" for s in stems), (width,)),
                )
            )
            index, channels = index + 2, width  # a convolution and its ReLU
        levels.append(tuple(convolutions))
        index += 1  # the max-pool
    heads = [
        take((f"lin{i}.model.1.weight", f"lins.{i}.model.1.weight"), (1, w[-1], 1, 1)).reshape(-1)
        for i, w in enumerate(WIDTHS)
    ]
    return LPIPS(tuple(levels), tuple(heads))
