"""The blocks of the published VQGAN (PAPERS 3.2; `diffusionmodules/model.py` of
taming-transformers), NHWC, with named axes.

Separate from the encoder and decoder, because the discriminator and the patch codec use some of
them too. Submodules have the published names: import_taming.py maps parameters by name.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.nn.convolution import convolution, group_norm, upsample
from vilg.types import Params

__all__ = [
    "AttentionBlock",
    "ResidualBlock",
    "convolution",
    "downsample",
    "group_norm",
    "run",
    "upsample",
]


class ResidualBlock(nn.Module):
    """norm, swish, conv, norm, swish, conv, without dropout; the shortcut is a 1x1 convolution
    where the number of channels changes.
    """

    channels: int
    groups: int = 32
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y x f"]:
        hidden = nn.silu(group_norm(self.groups, "norm1", self.dtype)(x))
        hidden = convolution(self.channels, "conv1", dtype=self.dtype)(hidden)
        hidden = nn.silu(group_norm(self.groups, "norm2", self.dtype)(hidden))
        hidden = convolution(self.channels, "conv2", dtype=self.dtype)(hidden)
        if x.shape[-1] != self.channels:
            x = convolution(self.channels, "nin_shortcut", size=1, padding=0, dtype=self.dtype)(x)
        return x + hidden


class AttentionBlock(nn.Module):
    """One head over all positions, 1x1 projections, scale c^-1/2, residual; the softmax is in
    float32.
    """

    groups: int = 32
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
        b, y, w, c = x.shape
        hidden = group_norm(self.groups, "norm", self.dtype)(x)
        q, k, v = (
            convolution(c, n, size=1, padding=0, dtype=self.dtype)(hidden).reshape(b, y * w, c)
            for n in "qkv"
        )
        scores = jnp.einsum("bqc,bsc->bqs", q, k, preferred_element_type=jnp.float32) * c**-0.5
        weights = jax.nn.softmax(scores).astype(self.dtype)
        mixed = jnp.einsum("bqs,bsc->bqc", weights, v).reshape(b, y, w, c)
        return x + convolution(c, "proj_out", size=1, padding=0, dtype=self.dtype)(mixed)


def downsample(channels: int, name: str, dtype: DTypeLike = jnp.float32) -> nn.Conv:
    """Half the size: zeros on the bottom and right only, then a 3x3 convolution of stride 2.
    (PAPERS 3.2: symmetric padding would shift the images of imported weights.)
    """
    return convolution(channels, name, stride=2, padding=(0, 1), dtype=dtype)


def run(module: nn.Module, params: Params, x: Array) -> Array:
    """The module's output for one array."""
    output: Any = module.apply({"params": params}, x)
    return output
