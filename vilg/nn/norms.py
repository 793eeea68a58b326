"""Norms of the transformers: computed in float32 whatever the dtype around them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.parallel.axes import named

EPSILON = 1e-6


def layer_norm() -> nn.LayerNorm:
    """LayerNorm over the last axis, with parameters whose axes are named."""
    return nn.LayerNorm(
        dtype=jnp.float32,
        scale_init=named(nn.initializers.ones, "embed"),
        bias_init=named(nn.initializers.zeros, "embed"),
    )


def plain_norm(x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """x with zero mean and unit variance along the last axis, float32; no parameters."""
    y = x.astype(jnp.float32)
    y = y - y.mean(-1, keepdims=True)
    return y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + EPSILON)


def rms_norm(x: Float[Array, "... k"], scale: Float[Array, " k"]) -> Float[Array, "... k"]:
    """x over its root mean square along the last axis, times a learned scale; in x's dtype."""
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + EPSILON) * scale).astype(x.dtype)
