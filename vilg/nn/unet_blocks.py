"""The blocks of the ADM / GLIDE U-Net (PAPERS 1.4; openai/guided-diffusion and glide-text2im
`unet.py`), NHWC.

Separate from the U-Net, which only says how they are joined. Norms and softmax are in float32, the
rest in `dtype`."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.nn.convolution import (
    apply_to_any_grid,
    average,
    convolution,
    fan_in_uniform,
    group_norm,
    upsample,
)
from vilg.nn.cross_attention import JointAttention
from vilg.nn.dense import dense
from vilg.parallel.constrain import constrain

EPSILON = 1e-5  # torch's default, which the published GroupNorm32 has
RESAMPLE = {"none": lambda x: x, "down": average, "up": upsample}


def placed(x: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
    """x where the layout wants activations. Said on both sides of every convolution: of a sharded
    kernel between arrays of which nothing is said, XLA rather computes a part of the channels for
    the whole batch, on every device (seen in plans of fsdp: 64 times the activations)."""
    return constrain(x, "batch", "rows", "columns", "channels_out")


class ResidualBlock(nn.Module):
    """norm, SiLU, (resampling), conv; norm, scaled and shifted by a linear function of SiLU(time),
    SiLU, conv that starts at zero.

    The shortcut is resampled alike, and a 1x1 convolution where the number of channels changes.
    """

    channels: int
    groups: int = 32
    resample: Literal["none", "down", "up"] = "none"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b y x c"], time: Float[Array, "b d"]
    ) -> Float[Array, "b u v f"]:
        resample, zeros = RESAMPLE[self.resample], nn.initializers.zeros_init()
        hidden = placed(
            resample(nn.silu(group_norm(self.groups, "norm_in", self.dtype, EPSILON)(x)))
        )
        hidden = placed(
            apply_to_any_grid(convolution(self.channels, "conv_in", dtype=self.dtype), hidden)
        )
        modulate = dense(
            2 * self.channels, ("channels_in", "channels_out"), "time", fan_in_uniform, self.dtype
        )(nn.silu(time))
        scale, shift = jnp.split(modulate[:, None, None], 2, -1)
        hidden = (
            group_norm(self.groups, "norm_out", self.dtype, EPSILON)(hidden) * (1 + scale) + shift
        )
        hidden = apply_to_any_grid(
            convolution(self.channels, "conv_out", kernel_init=zeros, dtype=self.dtype),
            placed(nn.silu(hidden)),
        )
        x = placed(resample(x))
        if x.shape[-1] != self.channels:
            x = convolution(self.channels, "shortcut", size=1, padding=0, dtype=self.dtype)(x)
        return placed(x + hidden)


class AttentionBlock(nn.Module):
    """Attention of the image's positions to the text and to each other after a norm, added to x;
    starts as the identity.
    """

    head_width: int
    groups: int = 32
    attend_mode: str = "prob"
    chunk: int = 0
    implementation: str = "auto"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b y x c"],
        context: Float[Array, "b m w"],
        attend: Float[Array, "b m"] | None = None,
    ) -> Float[Array, "b y x c"]:
        b, y, w, c = x.shape
        hidden = group_norm(self.groups, "norm", self.dtype, EPSILON)(x).reshape(b, y * w, c)
        attention = JointAttention(
            c // self.head_width,
            self.head_width,
            0.0,
            self.attend_mode,
            chunk=self.chunk,
            implementation=self.implementation,
            dtype=self.dtype,
            name="attention",
        )
        return placed(x + attention(hidden, context, attend).reshape(x.shape))


class Step(nn.Module):
    """One step of a level: a residual block of x (and of a skip beside it), then attention where
    the level has it.

    Returned twice: it is carried on, and kept as a skip.
    """

    channels: int
    attention: bool
    head_width: int
    groups: int
    attend_mode: str
    chunk: int
    implementation: str
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Array, skip: Array | None, time: Array, context: Array, attend: Array | None
    ) -> tuple[Array, Array]:
        x = x if skip is None else jnp.concatenate([x, skip], -1)
        x = ResidualBlock(self.channels, self.groups, dtype=self.dtype, name="residual")(x, time)
        if self.attention:
            fields = (
                self.head_width,
                self.groups,
                self.attend_mode,
                self.chunk,
                self.implementation,
                self.dtype,
            )
            block = AttentionBlock(*fields, name="attention")
            x = block(x, context, attend)
        return x, x
