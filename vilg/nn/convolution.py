"""Convolutions, group norms and resampling, NHWC, with named axes: what the codecs and the U-Net are made of.

Separate from codecs/blocks.py, which holds the published VQGAN's own blocks, because nn does not import codecs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.parallel.axes import named

fan_in_uniform = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")  # torch's default for a convolution


def by_channels(init: Callable) -> Callable:
    """A kernel initializer that names all four dimensions, except the channels that are the 3 of a picture (too few to shard)."""

    def initialize(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Any:
        axes = ("channels_in" if shape[-2] > 3 else None, "channels_out" if shape[-1] > 3 else None)
        return named(init, "rows", "columns", *axes)(key, shape, dtype)

    return initialize


def by_channel(init: Callable) -> Callable:
    """The same for a bias or a scale."""

    def initialize(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Any:
        return named(init, "channels_out" if shape[-1] > 3 else None)(key, shape, dtype)

    return initialize


def convolution(
    features: int,
    name: str | None = None,
    size: int = 3,
    stride: int = 1,
    padding: int | tuple[int, int] = 1,
    use_bias: bool = True,
    kernel_init: Callable = fan_in_uniform,
    dtype: Any = jnp.float32,
) -> nn.Conv:
    """A square convolution; `padding` is on every side, or a pair (top and left, bottom and right)."""
    pad = padding if isinstance(padding, tuple) else (padding, padding)
    return nn.Conv(
        features,
        (size, size),
        stride,
        padding=(pad, pad),
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=by_channels(kernel_init),
        bias_init=by_channel(nn.initializers.zeros_init()),
        name=name,
    )


def apply_to_any_grid(conv: nn.Conv, x: Float[Array, "b y x c"]) -> Float[Array, "b y x f"]:
    """conv(x), for a 3x3 convolution padded by 1; below 3x3 positions x is padded to them first, which changes no number.

    XLA swaps the operands of a convolution whose kernel has more positions than its input: on CPU that made 2x2 grids cost half of a
    U-Net (bench_unet.py). The barrier keeps it from taking the padding back.
    """
    rows, columns = x.shape[1:3]
    if rows * columns >= 9:
        return conv(x)
    padded = jnp.pad(x, ((0, 0), (0, max(0, 3 - rows)), (0, max(0, 3 - columns)), (0, 0)))
    return conv(jax.lax.optimization_barrier(padded))[:, :rows, :columns]


def group_norm(groups: int, name: str | None, dtype: Any = jnp.float32, epsilon: float = 1e-6) -> nn.GroupNorm:
    """GroupNorm; statistics in float32, the result in `dtype`. Its variance is exact, but in half precision the mean of squares less the square
    of the mean, which takes one pass over what is rounded to 8 bits anyway."""
    return nn.GroupNorm(
        groups,
        epsilon=epsilon,
        dtype=dtype,
        use_fast_variance=dtype != jnp.float32,
        scale_init=by_channel(nn.initializers.ones_init()),
        bias_init=by_channel(nn.initializers.zeros_init()),
        name=name,
    )


def upsample(x: Float[Array, "b y x c"]) -> Float[Array, "b 2*y 2*x c"]:
    """Twice the size, nearest neighbour; a 3x3 convolution follows."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def average(x: Float[Array, "b y x c"]) -> Float[Array, "b y//2 x//2 c"]:
    """Half the size: the mean of each square of four."""
    b, y, w, c = x.shape
    return x.reshape(b, y // 2, 2, w // 2, 2, c).mean((2, 4))
