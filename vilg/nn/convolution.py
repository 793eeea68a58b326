"""Convolutions, group norms and resampling, NHWC, with named axes: the parts of the codecs and of
the U-Net.

Separate from codecs/blocks.py, which holds the published VQGAN's own blocks, because nn does not
import codecs.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.config import require
from vilg.parallel.axes import named

Boxed = Array | nn.LogicallyPartitioned  # an initial parameter with the names of its axes

# torch's default for a convolution
fan_in_uniform = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def kernel_by_channels(init: Initializer) -> Initializer:
    """A kernel initializer that names all four dimensions, except the channels that are the 3 of an
    image (too few to shard).
    """

    def initialize(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Boxed:
        axes = ("channels_in" if shape[-2] > 3 else None, "channels_out" if shape[-1] > 3 else None)
        return named(init, "rows", "columns", *axes)(key, shape, dtype)

    return initialize


def vector_by_channels(init: Initializer) -> Initializer:
    """The same for a bias or a scale."""

    def initialize(key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Boxed:
        return named(init, "channels_out" if shape[-1] > 3 else None)(key, shape, dtype)

    return initialize


def convolution(
    features: int,
    name: str | None = None,
    size: int = 3,
    stride: int = 1,
    padding: int | tuple[int, int] = 1,
    use_bias: bool = True,
    kernel_init: Initializer = fan_in_uniform,
    dtype: DTypeLike = jnp.float32,
) -> nn.Conv:
    """A square convolution; `padding` is on every side, or a pair (top and left, bottom and
    right).
    """
    pad = padding if isinstance(padding, tuple) else (padding, padding)
    return nn.Conv(
        features,
        (size, size),
        stride,
        padding=(pad, pad),
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=kernel_by_channels(kernel_init),
        bias_init=vector_by_channels(nn.initializers.zeros_init()),
        name=name,
    )


def apply_to_any_grid(conv: nn.Conv, x: Float[Array, "b y x c"]) -> Float[Array, "b y x f"]:
    """conv(x), for a 3x3 convolution padded by 1. A grid of fewer than 3x3 positions is padded to
    that size first, which changes no number.

    XLA swaps the operands of a convolution whose kernel has more positions than its input: on CPU
    that made 2x2 grids cost half of a U-Net (vilg/run/bench/unet.py). The barrier keeps XLA from
    removing the padding.
    """
    rows, columns = x.shape[1:3]
    if rows * columns >= 9:
        return conv(x)
    padded = jnp.pad(x, ((0, 0), (0, max(0, 3 - rows)), (0, max(0, 3 - columns)), (0, 0)))
    return conv(jax.lax.optimization_barrier(padded))[:, :rows, :columns]


def normalised(
    x: Float[Array, "b y x c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    groups: int,
    epsilon: float,
    exact: bool,
) -> Float[Array, "b y x c"]:
    """x less its group's mean, over the group's standard deviation, scaled and shifted; in float32.

    Groups are never an axis of x: products with the groups' membership turn means over the image
    into means over groups, and these back into values for channels. An axis of groups would split
    the channels in two, of which a group's (10 of 128 lanes) cost a TPU whole copies of x. The
    variance is the mean square of the differences from the mean (`exact`), or the mean of squares
    less the square of the mean, which takes one pass over x.
    """
    x, channels = x.astype(jnp.float32), x.shape[-1]
    member = jnp.repeat(jnp.eye(groups), channels // groups, axis=1)

    def over_groups(*means: Array) -> Array:
        return jnp.matmul(
            jnp.stack([m.mean((1, 2)) for m in means]),
            member.T * (groups / channels),
            precision="highest",
        )

    def to_channels(*values: Array) -> Array:
        return checkpoint_name(
            jnp.matmul(jnp.stack(values), member, precision="highest"), "statistics"
        )[:, :, None, None]

    if exact:
        mean = over_groups(x)[0]
        variance = over_groups(jnp.square(x - to_channels(mean)[0]))[0]
    else:
        mean, squares = over_groups(x, jnp.square(x))
        variance = jnp.maximum(squares - jnp.square(mean), 0)
    mean, variance = checkpoint_name((mean, variance), "statistics")
    center, gain = to_channels(mean, jax.lax.rsqrt(variance + epsilon))
    return (x - center) * (gain * scale) + bias


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He, 2018); statistics in float32, the result in `dtype`.

    In half precision the variance is computed in one pass, since x is rounded to 8 bits anyway. The
    backward pass keeps only x and its statistics. Errors: UserError for channels that the groups do
    not divide.
    """

    groups: int
    dtype: DTypeLike = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
        channels = x.shape[-1]
        require(
            channels % self.groups == 0,
            "groups",
            self.groups,
            f"must divide the {channels} channels that are normed in groups",
        )
        scale = self.param(
            "scale", vector_by_channels(nn.initializers.ones_init()), (channels,), jnp.float32
        )
        bias = self.param(
            "bias", vector_by_channels(nn.initializers.zeros_init()), (channels,), jnp.float32
        )
        policy = jax.checkpoint_policies.save_only_these_names("statistics")
        norm = jax.checkpoint(
            normalised, policy=policy, prevent_cse=False, static_argnums=(3, 4, 5)
        )
        return norm(x, scale, bias, self.groups, self.epsilon, self.dtype == jnp.float32).astype(
            self.dtype
        )


def group_norm(
    groups: int, name: str | None, dtype: DTypeLike = jnp.float32, epsilon: float = 1e-6
) -> GroupNorm:
    """A GroupNorm whose arguments may be given by position."""
    return GroupNorm(groups, dtype, epsilon, name=name)


def upsample(x: Float[Array, "b y x c"]) -> Float[Array, "b 2*y 2*x c"]:
    """Twice the size, nearest neighbour; a 3x3 convolution follows."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def average(x: Float[Array, "b y x c"]) -> Float[Array, "b y//2 x//2 c"]:
    """Half the size: the mean of each square of four."""
    b, y, w, c = x.shape
    return x.reshape(b, y // 2, 2, w // 2, 2, c).mean((2, 4))
