"""Attention of image positions (or text alone) in which text keys and values stand beside the
image's own (GLIDE; PAPERS 1.4).

Both denoisers and the text encoder use it. Knowledge weights W^a (PAPERS 1.6) depend on the text
key alone, so they need no attention of their own: multiplying probabilities ("prob") is multiplying
the text's values, and multiplying logits ("logit") its keys.

Computed in one of IMPLEMENTATIONS: "chunked" (XLA's products, a chunk of queries at a time),
"dot_product" (jax.nn.dot_product_attention, cuDNN's on a GPU) or "splash" (the TPU's kernel).
"auto" takes the device's kernel from LONG queries on, in half precision, and "chunked" below."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vilg.config import lookup
from vilg.nn.attention import check_implementation, dot_product_kernel, softmax_over
from vilg.nn.splash import WHOLE, joint_splash
from vilg.nn.transformer import rms, rotate
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain, platform

Pair = tuple[Array, Array]  # keys and values, [b h s k]
LONG = 512  # queries from which XLA's passes over all pairs cost more than a kernel's start


def weigh_values(text: Pair, weights: Array) -> Pair:
    """Probabilities times weights; rows then no longer sum to one (PAPERS 1.6)."""
    return text[0], _times(text[1], weights)


def weigh_keys(text: Pair, weights: Array) -> Pair:
    """Logits times weights."""
    return _times(text[0], weights), text[1]


ATTEND = {"prob": weigh_values, "logit": weigh_keys}


def _times(x: Array, weights: Array) -> Array:
    return (x.astype(jnp.float32) * weights.astype(jnp.float32)[:, None, :, None]).astype(x.dtype)


def attend_jointly(
    q: Float[Array, "b h n k"],
    image: Pair,
    text: Pair | None = None,
    weights: Float[Array, "b m"] | None = None,
    mode: str = "prob",
    chunk: int = 0,
    implementation: str = "auto",
) -> Float[Array, "b h n k"]:
    """One softmax over text and image keys, scaled by k**-0.5, in float32.

    `weights` are W^a for each text key (None and ones are the same, bit for bit). "chunked" takes
    `chunk` queries at a time (0: all), and computes them again in the backward pass, so that memory
    grows with n instead of n**2, as the kernels' does. Errors: UserError for an unknown mode or
    implementation."""
    weigh = lookup(ATTEND, mode, "attend_mode")
    check_implementation(implementation, "implementation", IMPLEMENTATIONS)
    sources = [image]
    if text is not None:
        sources = [text if weights is None else weigh(text, weights), image]
    if implementation == "auto":
        implementation = (
            AUTO[platform()] if q.dtype == jnp.bfloat16 and q.shape[2] >= LONG else "chunked"
        )
    return IMPLEMENTATIONS[implementation](q, sources, chunk)


def _chunked(q: Array, sources: list[Pair], chunk: int) -> Array:
    def some(queries: Array) -> Array:
        return softmax_over(queries, [(k, v, None) for k, v in sources])

    b, h, n, k = q.shape
    if not chunk or n <= chunk:
        return some(q)
    blocks = -(-n // chunk)
    padded = jnp.pad(q, ((0, 0), (0, 0), (0, blocks * chunk - n), (0, 0))).reshape(
        b, h, blocks, chunk, k
    )
    out = jax.lax.map(jax.checkpoint(some), jnp.moveaxis(padded, 2, 0))
    return jnp.moveaxis(out, 0, 2).reshape(b, h, blocks * chunk, k)[:, :, :n]


def _dot_product(q: Array, sources: list[Pair], _: int) -> Array:
    q, k, v = (x.swapaxes(1, 2) for x in (q, *_joined(sources)))
    return jax.nn.dot_product_attention(
        q, k, v, implementation=dot_product_kernel(q, masked=False)
    ).swapaxes(1, 2)


def _splash(q: Array, sources: list[Pair], _: int) -> Array:
    return joint_splash(q, *_joined(sources))


def _joined(sources: list[Pair]) -> Pair:
    keys, values = (jnp.concatenate(parts, 2) for parts in zip(*sources, strict=True))
    return keys, values


IMPLEMENTATIONS = {"chunked": _chunked, "dot_product": _dot_product, "splash": _splash}
AUTO = {
    "cpu": "chunked",
    "gpu": "dot_product",
    "tpu": "splash",
}  # of long queries, by the platform of the program's devices


class JointAttention(nn.Module):
    """Projections around `attend_jointly`: q, k, v of x, k and v of the text states (where there
    are any), and the output's.

    The caller norms x and adds the residual. `out_scale` is the initial standard deviation of the
    output projection (0: zeros). With `rotary_base`, image queries and keys turn with their places
    (row, column); text keys do not."""

    heads: int
    head_size: int
    out_scale: float
    attend_mode: str = "prob"
    qk_norm: bool = False
    rotary_base: float = 0.0
    chunk: int = 0
    implementation: str = "auto"
    dtype: Any = jnp.float32

    def _projection(self, name: str, x: Array, kinds: int) -> list[Array]:
        shape, zeros = (kinds, self.heads, self.head_size), nn.initializers.zeros_init()
        init = nn.initializers.normal(x.shape[-1] ** -0.5)
        kernel = self.param(
            name,
            named(init, "embed", None, "heads", "head_dim"),
            (x.shape[-1], *shape),
            jnp.float32,
        )
        bias = self.param(
            f"{name}_bias", named(zeros, None, "heads", "head_dim"), shape, jnp.float32
        )
        y = (
            jnp.einsum("bld,dzhk->zbhlk", x.astype(self.dtype), kernel.astype(self.dtype))
            + bias.astype(self.dtype)[:, None, :, None]
        )
        y = checkpoint_name(constrain(y, None, "batch", "heads", "length", "head_dim"), "qkv")
        return [y[z] for z in range(kinds)]

    def _scale(self, name: str, x: Array) -> Array:
        return rms(
            x,
            self.param(
                name, named(nn.initializers.ones_init(), "head_dim"), (self.head_size,), jnp.float32
            ),
        )

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        context: Float[Array, "b m w"] | None = None,
        attend: Float[Array, "b m"] | None = None,
        places: Float[Array, "n 2"] | None = None,
    ) -> Float[Array, "b n d"]:
        q, k, v = (
            constrain(y, *WHOLE) for y in self._projection("qkv", x, 3)
        )  # whole rows of heads, whatever the layout
        text = None
        if context is not None:
            text_k, text_v = (constrain(y, *WHOLE) for y in self._projection("text_kv", context, 2))
            text = (self._scale("text_k_scale", text_k) if self.qk_norm else text_k), text_v
        if self.qk_norm:
            q, k = self._scale("q_scale", q), self._scale("k_scale", k)
        if self.rotary_base and places is not None:
            q, k = (
                jnp.moveaxis(rotate(jnp.moveaxis(y, 1, 2), places, self.rotary_base), 2, 1)
                for y in (q, k)
            )
        mixed = attend_jointly(
            q, (k, v), text, attend, self.attend_mode, self.chunk, self.implementation
        )
        mixed = checkpoint_name(
            constrain(mixed, "batch", "heads", "length", "head_dim"), "attention_out"
        )
        zeros = nn.initializers.zeros_init()
        init = nn.initializers.normal(self.out_scale) if self.out_scale else zeros
        out = self.param(
            "out",
            named(init, "heads", "head_dim", "embed"),
            (self.heads, self.head_size, x.shape[-1]),
            jnp.float32,
        )
        bias = self.param("out_bias", named(zeros, "embed"), (x.shape[-1],), jnp.float32)
        return jnp.einsum("bhnk,hkd->bnd", mixed, out.astype(self.dtype)) + bias.astype(self.dtype)
