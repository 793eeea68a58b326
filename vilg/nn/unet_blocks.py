"""The blocks of the ADM / GLIDE U-Net (PAPERS 1.4; `unet.py` of openai/guided-diffusion and
glide-text2im), NHWC.

Separate from the U-Net, which only says how they are joined. Norms and the softmax are computed in
float32, the rest in `dtype`.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.nn.convolution import (
    apply_to_any_grid,
    average,
    convolution,
    fan_in_uniform,
    group_norm,
    upsample,
)
from vilg.nn.cross_attention import AttentionOptions, JointAttention
from vilg.nn.dense import dense
from vilg.parallel.constrain import constrain

EPSILON = 1e-5  # torch's default, which the published GroupNorm32 has
Resample = Literal["none", "down", "up"]
RESAMPLE: dict[str, Callable[[Array], Array]] = {
    "none": lambda x: x,
    "down": average,
    "up": upsample,
}


def place(x: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
    """x where the layout puts activations; needed on both sides of every convolution. If the arrays
    around a sharded kernel have no stated placement, XLA prefers to compute a part of the channels
    for the whole batch on every device (seen in plans of fsdp: 64 times the activations).
    """
    return constrain(x, "batch", "rows", "columns", "channels_out")


class ResidualBlock(nn.Module):
    """norm, SiLU, (resampling), conv; norm, scaled and shifted by a linear function of SiLU(time),
    SiLU, conv that starts at zero.

    The shortcut is resampled alike, and is a 1x1 convolution where the number of channels changes.
    """

    channels: int
    groups: int = 32
    resample: Resample = "none"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b y x c"], time: Float[Array, "b d"]
    ) -> Float[Array, "b u v f"]:
        resample, zeros = RESAMPLE[self.resample], nn.initializers.zeros_init()
        norm_in = group_norm(self.groups, "norm_in", self.dtype, EPSILON)
        conv_in = convolution(self.channels, "conv_in", dtype=self.dtype)
        hidden = place(resample(nn.silu(norm_in(x))))
        hidden = place(apply_to_any_grid(conv_in, hidden))
        modulate = dense(
            2 * self.channels, ("channels_in", "channels_out"), "time", fan_in_uniform, self.dtype
        )(nn.silu(time))
        scale, shift = jnp.split(modulate[:, None, None], 2, -1)
        norm_out = group_norm(self.groups, "norm_out", self.dtype, EPSILON)
        conv_out = convolution(self.channels, "conv_out", kernel_init=zeros, dtype=self.dtype)
        hidden = norm_out(hidden) * (1 + scale) + shift
        hidden = apply_to_any_grid(conv_out, place(nn.silu(hidden)))
        x = place(resample(x))
        if x.shape[-1] != self.channels:
            x = convolution(self.channels, "shortcut", size=1, padding=0, dtype=self.dtype)(x)
        return place(x + hidden)


class AttentionBlock(nn.Module):
    """Attention of the image's positions to the text and to each other after a norm, added to x; as
    initialised it is the identity.
    """

    head_width: int
    groups: int
    options: AttentionOptions

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b y x c"],
        context: Float[Array, "b m w"],
        attend: Float[Array, "b m"] | None = None,
    ) -> Float[Array, "b y x c"]:
        b, y, w, c = x.shape
        norm = group_norm(self.groups, "norm", self.options.dtype, EPSILON)
        attention = JointAttention(
            c // self.head_width, self.head_width, 0.0, self.options, name="attention"
        )
        hidden = norm(x).reshape(b, y * w, c)
        return place(x + attention(hidden, context, attend).reshape(x.shape))


class Step(nn.Module):
    """One step of a level: a residual block of x (and of a skip beside it), then attention where
    the level has it. The state is returned twice: one is carried on, the other becomes a skip.
    """

    channels: int
    attention: bool
    head_width: int
    groups: int
    options: AttentionOptions

    @nn.compact
    def __call__(
        self, x: Array, skip: Array | None, time: Array, context: Array, attend: Array | None
    ) -> tuple[Array, Array]:
        x = x if skip is None else jnp.concatenate([x, skip], -1)
        dtype = self.options.dtype
        x = ResidualBlock(self.channels, self.groups, dtype=dtype, name="residual")(x, time)
        if self.attention:
            block = AttentionBlock(self.head_width, self.groups, self.options, name="attention")
            x = block(x, context, attend)
        return x, x
