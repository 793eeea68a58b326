"""The published VQGAN's encoder and decoder (PAPERS 3.2): residual convolutions in levels of
halving size, attention at given sizes.

    encoder: conv_in, per level {blocks, attention, down}, mid, norm_out, conv_out, quant_conv
    decoder: post_quant_conv, conv_in, mid, per level from the last {blocks + 1, attention, up},
    norm_out, (the codec's last convolution)

Separate because it is one entry of the table ARCHITECTURES (autoencoder.py). Parameter names follow
the published ones, with "_" for ".".
"""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.codecs.blocks import (
    AttentionBlock,
    ResidualBlock,
    convolution,
    downsample,
    group_norm,
    upsample,
)
from vilg.config import require
from vilg.parallel.constrain import constrain

FEATURES = ("batch", "rows", "columns", "channels_out")


@dataclass(frozen=True)
class Convolutional:
    """An entry of ARCHITECTURES. The levels are channels * multipliers wide, and the factor is
    2^(levels - 1). Attention follows each block of a level whose size is in `attention_at`; this
    goes by the configured image size, whatever image is encoded.
    """

    channels: int = 128  # channels at full size
    # of the channels, one for each level; each level halves the picture
    multipliers: tuple[int, ...] = (1, 1, 2, 4)
    blocks: int = 2  # residual blocks of a level
    attention_at: tuple[int, ...] = (32,)  # sizes of the grid at which attention follows each block
    # channels of the encoder's output; a KL codec puts out a mean and a log-variance of so many
    latent_channels: int = 256
    groups: int = 32  # groups of the group norms

    def __post_init__(self) -> None:
        require(
            len(self.multipliers) > 0,
            "architecture.multipliers",
            self.multipliers,
            "must have at least one level",
        )
        require(self.blocks > 0, "architecture.blocks", self.blocks, "must be at least 1")
        require(
            self.groups > 0 and self.channels > 0,
            "architecture.channels",
            self.channels,
            "channels and groups must be at least 1",
        )
        require(
            self.channels % self.groups == 0,
            "architecture.groups",
            self.groups,
            f"must divide channels={self.channels}",
        )

    @property
    def downsample(self) -> int:
        """Pixels a side of the square that becomes one position."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def output_size(self) -> int:
        """The kernel size of the codec's last convolution."""
        return 3

    def attends(self, image_size: int, level: int) -> bool:
        """Whether the blocks of a level have attention."""
        return image_size // 2**level in self.attention_at

    def encoder(
        self, image_size: int, code_width: int, dtype: DTypeLike, moments: int = 1
    ) -> nn.Module:
        """The encoder, whose output has `moments` arrays of code_width channels side by side (2 for
        the mean and log-variance of a posterior). Errors: UserError for an attention_at that no
        level has.
        """
        unreachable = [
            size
            for size in self.attention_at
            if size not in [image_size // 2**i for i in range(len(self.multipliers))]
        ]
        require(
            not unreachable,
            "architecture.attention_at",
            self.attention_at,
            f"no level of {image_size} px has size {unreachable}",
        )
        return ConvolutionalEncoder(self, image_size, code_width, moments, dtype)

    def decoder(self, image_size: int, code_width: int, dtype: DTypeLike) -> nn.Module:
        """The decoder."""
        return ConvolutionalDecoder(self, image_size, code_width, dtype)


class ConvolutionalEncoder(nn.Module):
    """Images in [-1, 1] -> `moments` latents side by side (2: the published double_z)."""

    config: Convolutional
    image_size: int
    code_width: int
    moments: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x e"]:
        c = self.config
        x = convolution(c.channels, "conv_in", dtype=self.dtype)(images.astype(self.dtype))
        for level, multiplier in enumerate(c.multipliers):
            for i in range(c.blocks):
                x = ResidualBlock(
                    c.channels * multiplier, c.groups, self.dtype, name=f"down_{level}_block_{i}"
                )(x)
                if c.attends(self.image_size, level):
                    x = AttentionBlock(c.groups, self.dtype, name=f"down_{level}_attn_{i}")(x)
                x = constrain(x, *FEATURES)
            if level < len(c.multipliers) - 1:
                x = downsample(x.shape[-1], f"down_{level}_downsample_conv", self.dtype)(x)
        x = middle(x, c.groups, self.dtype)
        x = nn.silu(group_norm(c.groups, "norm_out", self.dtype)(x))
        x = convolution(self.moments * c.latent_channels, "conv_out", dtype=self.dtype)(x)
        return convolution(
            self.moments * self.code_width, "quant_conv", size=1, padding=0, dtype=self.dtype
        )(x)


class ConvolutionalDecoder(nn.Module):
    """Embeddings -> features at full size, which the codec's last convolution turns into pixels."""

    config: Convolutional
    image_size: int
    code_width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, embeddings: Float[Array, "b y x d"]) -> Float[Array, "b H W c"]:
        c = self.config
        x = convolution(c.latent_channels, "post_quant_conv", size=1, padding=0, dtype=self.dtype)(
            embeddings.astype(self.dtype)
        )
        x = convolution(c.channels * c.multipliers[-1], "conv_in", dtype=self.dtype)(x)
        x = middle(x, c.groups, self.dtype)
        for level in reversed(range(len(c.multipliers))):
            for i in range(c.blocks + 1):
                x = ResidualBlock(
                    c.channels * c.multipliers[level],
                    c.groups,
                    self.dtype,
                    name=f"up_{level}_block_{i}",
                )(x)
                if c.attends(self.image_size, level):
                    x = AttentionBlock(c.groups, self.dtype, name=f"up_{level}_attn_{i}")(x)
                x = constrain(x, *FEATURES)
            if level > 0:
                x = convolution(x.shape[-1], f"up_{level}_upsample_conv", dtype=self.dtype)(
                    upsample(x)
                )
        return nn.silu(group_norm(c.groups, "norm_out", self.dtype)(x))


def middle(x: Float[Array, "b y x c"], groups: int, dtype: DTypeLike) -> Float[Array, "b y x c"]:
    """Block, attention, block at the smallest size; called inside a compact method, whose module
    then has these submodules.
    """
    x = ResidualBlock(x.shape[-1], groups, dtype, name="mid_block_1")(x)
    x = AttentionBlock(groups, dtype, name="mid_attn_1")(x)
    return ResidualBlock(x.shape[-1], groups, dtype, name="mid_block_2")(x)
