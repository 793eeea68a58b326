"""A codec architecture whose encoder sees one patch at a time: equal patches get equal codes
wherever they are.

Separate from the convolutional one because it has another property: as codes do not depend on their
neighbours, a plain background is one single code, and a generator has far less to learn (measured:
token perplexity 209 -> 7 at equal PSNR). Everything is a matrix product, a 3x3 convolution or a
depth-to-space: the fast operations of a CPU.
"""

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.codecs.blocks import convolution
from vilg.config import require
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain


@dataclass(frozen=True)
class Patch:
    """An entry of ARCHITECTURES. Both encoder and decoder have 3x3 convolutions between patches,
    then residual blocks within a patch; the decoder then has 3x3 convolutions at full size, and the
    codec's last convolution follows. With output_size 1 and no 3x3 convolution a patch is a
    function of its code alone.
    """

    patch: int = 4  # rows and columns of pixels that become one code
    width: int = 128  # width of a position's state
    depth: int = 2  # residual blocks of the encoder, and of the decoder, within a patch
    encoder_context: int = 0  # 3x3 convolutions between patches in the encoder; 0: patches alone
    context: int = 0  # 3x3 convolutions between patches in the decoder; 0: patches alone
    channels: int = 16  # channels of the refinements at full size
    refinements: int = 0  # 3x3 convolutions of the decoder at full size
    # size of the last convolution; 1: a patch depends on its own code alone
    output_size: Literal[1, 3] = 3

    def __post_init__(self) -> None:
        for field in ("patch", "width", "channels"):
            require(
                getattr(self, field) > 0,
                f"architecture.{field}",
                getattr(self, field),
                "must be at least 1",
            )

    @property
    def downsample(self) -> int:
        """Pixels a side of the square that becomes one position."""
        return self.patch

    def encoder(
        self, image_size: int, code_width: int, dtype: DTypeLike, moments: int = 1
    ) -> nn.Module:
        """The encoder, whose output has `moments` arrays of code_width channels side by side (2 for
        the mean and log-variance of a posterior).
        """
        return PatchEncoder(self, moments * code_width, dtype)

    def decoder(self, image_size: int, code_width: int, dtype: DTypeLike) -> nn.Module:
        """The decoder."""
        return PatchDecoder(self, dtype)


class PatchEncoder(nn.Module):
    """Images -> [b y x width], each position a function of its own patch (and, with
    encoder_context, of its neighbours).
    """

    config: Patch
    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x d"]:
        c, p = self.config, self.config.patch
        x = rearrange(images.astype(self.dtype), "b (y p) (x q) c -> b y x (p q c)", p=p, q=p)
        x = dense(c.width, self.dtype, "patches")(x)
        x = constrain(x, "batch", "rows", "columns", "channels_out")
        x = mix_patches(x, c.encoder_context, c.width, self.dtype)
        for i in range(c.depth):
            x = PatchBlock(c.width, self.dtype, name=f"block_{i}")(x)
        x = norm(self.dtype, "norm_out")(x)
        return dense(self.width, self.dtype, "latents", ("channels_in", None))(x)


class PatchDecoder(nn.Module):
    """Embeddings -> features at full size, which the codec's last convolution turns into pixels."""

    config: Patch
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, embeddings: Float[Array, "b y x d"]) -> Float[Array, "b H W c"]:
        c, p = self.config, self.config.patch
        x = embeddings.astype(self.dtype)
        x = dense(c.width, self.dtype, "embeddings", (None, "channels_out"))(x)
        x = mix_patches(x, c.context, c.width, self.dtype)
        for i in range(c.depth):
            x = PatchBlock(c.width, self.dtype, name=f"block_{i}")(x)
        x = norm(self.dtype, "norm_out")(x)
        x = dense(p**2 * c.channels, self.dtype, "pixels")(x)
        x = rearrange(x, "b y x (p q c) -> b (y p) (x q) c", p=p, q=p)
        x = constrain(x, "batch", "rows", "columns", "channels_out")
        for i in range(c.refinements):
            x = x + convolution(c.channels, f"refinement_{i}", dtype=self.dtype)(nn.silu(x))
        return nn.silu(x)


def dense(
    features: int,
    dtype: DTypeLike,
    name: str,
    axes: tuple[str | None, str | None] = ("channels_in", "channels_out"),
) -> nn.Dense:
    """A 1x1 convolution; `axes` are the names of its kernel's two dimensions."""
    kernel = named(nn.initializers.lecun_normal(), *axes)
    bias = named(nn.initializers.zeros_init(), axes[1])
    return nn.Dense(features, dtype=dtype, kernel_init=kernel, bias_init=bias, name=name)


def norm(dtype: DTypeLike, name: str) -> nn.LayerNorm:
    """LayerNorm over channels at each position (GroupNorm would mix positions)."""
    scale = named(nn.initializers.ones_init(), "channels_out")
    bias = named(nn.initializers.zeros_init(), "channels_out")
    return nn.LayerNorm(epsilon=1e-6, dtype=dtype, scale_init=scale, bias_init=bias, name=name)


def mix_patches(
    x: Float[Array, "b y x c"], count: int, width: int, dtype: DTypeLike
) -> Float[Array, "b y x c"]:
    """`count` residual 3x3 convolutions between patches; called inside a compact method."""
    for i in range(count):
        x = x + convolution(width, f"context_{i}", dtype=dtype)(
            nn.silu(norm(dtype, f"context_norm_{i}")(x))
        )
    return x


class PatchBlock(nn.Module):
    """x + W2 act(W1 norm(x)): a residual block of 1x1 convolutions."""

    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
        hidden = nn.silu(dense(self.width, self.dtype, "inner")(norm(self.dtype, "norm")(x)))
        return x + dense(self.width, self.dtype, "outer")(hidden)
