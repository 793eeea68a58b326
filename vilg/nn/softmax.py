"""Attention of queries to several sources of keys and values under one softmax.

Separate from the implementations of attention, all of which but the kernels are built of it: text
and image keys, or a cache and a new position, are never concatenated.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Source = tuple[Array, Array, Array | np.ndarray | None]
"""Keys, values, and the mask of the keys that are visible (None: all are)."""
HIDDEN = -1e30  # the logit of a masked key: finite, so that no difference of two of them is NaN


def softmax_over(queries: Float[Array, "b h *g s k"], sources: Sequence[Source]) -> Array:
    """Softmax attention [b, h, *g, s, k] over all keys of all sources, scaled by k**-0.5.

    Keys and values are [b, h, *g, t, k], in step with the queries' blocks, or [b, h, t, k], which
    every block sees. The softmax is computed in float32. In half precision the sum of the weights
    comes from the product with the values, as one more value of ones: this saves a pass over the
    weights, and it is free where a TPU pads heads to 128 lanes.
    """
    scaled = (queries.astype(jnp.float32) * queries.shape[-1] ** -0.5).astype(queries.dtype)
    logits = []
    for keys, _, mask in sources:
        product = jnp.einsum(
            f"{_axes(queries)}qk,{_axes(keys)}sk->{_axes(queries)}qs",
            scaled,
            keys,
            preferred_element_type=jnp.float32,
        )
        logits.append(product if mask is None else jnp.where(mask, product, HIDDEN))
    highest = functools.reduce(jnp.maximum, [part.max(-1, keepdims=True) for part in logits])
    highest = jax.lax.stop_gradient(highest)
    sum_by_product = queries.dtype != jnp.float32 and queries.shape[-1] % 128 != 0
    total = jnp.zeros_like(highest)
    out = jnp.zeros((*queries.shape[:-1], queries.shape[-1] + sum_by_product), jnp.float32)
    for part, (_, values, _) in zip(logits, sources, strict=True):
        weights = jnp.exp(part - highest)
        if sum_by_product:
            values = jnp.concatenate([values, jnp.ones_like(values[..., :1])], -1)
        else:
            total = total + weights.sum(-1, keepdims=True)
        out = out + jnp.einsum(
            f"{_axes(queries)}qs,{_axes(values)}sk->{_axes(queries)}qk",
            weights.astype(values.dtype),
            values,
            preferred_element_type=jnp.float32,
        )
    if sum_by_product:
        out, total = out[..., :-1], out[..., -1:]
    return (out / total).astype(queries.dtype)


def _axes(x: Array) -> str:
    """The einsum letters of the leading axes: batch, heads and, where there is one, blocks."""
    return "bhr"[: x.ndim - 2]
