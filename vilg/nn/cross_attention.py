"""Joint attention: image positions attend to the text's keys and values beside their own (as in
GLIDE; PAPERS 1.4); without a text it is self-attention.

Both denoisers and both encoders use it. The knowledge weights W^a of ERNIE-ViLG 2.0 (PAPERS 1.6)
depend on the text key alone, so that they need no attention of their own: multiplying probabilities
("prob") is multiplying the text's values, and multiplying logits ("logit") is multiplying its keys.

It is computed by one of IMPLEMENTATIONS: "chunked" (XLA's products, a chunk of queries at a time),
"dot_product" (jax.nn.dot_product_attention, cuDNN's on a GPU) or "splash" (a kernel for TPUs).
"auto" takes the device's kernel from LONG queries on, in half precision, and "chunked" below.
"""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.config import lookup
from vilg.nn.attention import check_implementation, dot_product_kernel
from vilg.nn.norms import rms_norm
from vilg.nn.rotary import rotate
from vilg.nn.softmax import softmax_over
from vilg.nn.splash import HEADS_FIRST, joint_splash
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain, platform

KeysValues = tuple[Array, Array]  # keys and values, each [b h s k]
LONG = 512  # queries from which XLA's passes over all pairs cost more than a kernel's start


def weigh_values(text: KeysValues, weights: Float[Array, "b m"]) -> KeysValues:
    """Probabilities times weights; rows then no longer sum to one (PAPERS 1.6)."""
    return text[0], _times(text[1], weights)


def weigh_keys(text: KeysValues, weights: Float[Array, "b m"]) -> KeysValues:
    """Logits times weights."""
    return _times(text[0], weights), text[1]


ATTEND: dict[str, Callable[[KeysValues, Array], KeysValues]] = {
    "prob": weigh_values,
    "logit": weigh_keys,
}


def _times(x: Array, weights: Array) -> Array:
    return (x.astype(jnp.float32) * weights.astype(jnp.float32)[:, None, :, None]).astype(x.dtype)


@dataclass(frozen=True)
class AttentionOptions:
    """How a module's attention is computed: what its config hands down to every block.

    `attend_mode` is a name of ATTEND. `rotary_base` 0 means no rotary positions. `query_chunk` is
    the number of queries that "chunked" takes at a time (0: all). `dtype` is the computation's.
    """

    attend_mode: str = "prob"
    qk_norm: bool = False
    rotary_base: float = 0.0
    query_chunk: int = 0
    implementation: str = "auto"
    dtype: DTypeLike = jnp.float32


DEFAULT = AttentionOptions()


def attend_jointly(
    q: Float[Array, "b h n k"],
    image: KeysValues,
    text: KeysValues | None = None,
    weights: Float[Array, "b m"] | None = None,
    options: AttentionOptions = DEFAULT,
) -> Float[Array, "b h n k"]:
    """One softmax over text and image keys, scaled by k**-0.5, in float32.

    `weights` are W^a for each text key (None and ones are the same, bit for bit). "chunked" takes
    `query_chunk` queries at a time and computes them again in the backward pass, so that memory
    grows with n instead of n**2, as the kernels' does. Errors: UserError for an unknown mode or
    implementation.
    """
    weigh = lookup(ATTEND, options.attend_mode, "attend_mode")
    implementation = options.implementation
    check_implementation(implementation, "implementation", IMPLEMENTATIONS)
    sources = [image]
    if text is not None:
        sources = [text if weights is None else weigh(text, weights), image]
    if implementation == "auto":
        long = q.dtype == jnp.bfloat16 and q.shape[2] >= LONG
        implementation = AUTO[platform()] if long else "chunked"
    return IMPLEMENTATIONS[implementation](q, sources, options.query_chunk)


def _chunked(q: Array, sources: list[KeysValues], chunk: int) -> Array:
    def attend_chunk(queries: Array) -> Array:
        return softmax_over(queries, [(k, v, None) for k, v in sources])

    b, h, n, k = q.shape
    if not chunk or n <= chunk:
        return attend_chunk(q)
    chunks = -(-n // chunk)
    padded = jnp.pad(q, ((0, 0), (0, 0), (0, chunks * chunk - n), (0, 0))).reshape(
        b, h, chunks, chunk, k
    )
    out = jax.lax.map(jax.checkpoint(attend_chunk), jnp.moveaxis(padded, 2, 0))
    return jnp.moveaxis(out, 0, 2).reshape(b, h, chunks * chunk, k)[:, :, :n]


def _dot_product(q: Array, sources: list[KeysValues], chunk: int) -> Array:
    q, k, v = (x.swapaxes(1, 2) for x in (q, *_joined(sources)))
    kernel = dot_product_kernel(q, masked=False)
    return jax.nn.dot_product_attention(q, k, v, implementation=kernel).swapaxes(1, 2)


def _splash(q: Array, sources: list[KeysValues], chunk: int) -> Array:
    return joint_splash(q, *_joined(sources))


def _joined(sources: list[KeysValues]) -> KeysValues:
    keys, values = (jnp.concatenate(parts, 2) for parts in zip(*sources, strict=True))
    return keys, values


IMPLEMENTATIONS: dict[str, Callable[[Array, list[KeysValues], int], Array]] = {
    "chunked": _chunked,
    "dot_product": _dot_product,
    "splash": _splash,
}
# the implementation of long queries under "auto", by the platform of the program's devices
AUTO = {"cpu": "chunked", "gpu": "dot_product", "tpu": "splash"}


class JointAttention(nn.Module):
    """Projections around `attend_jointly`: queries, keys and values of x, keys and values of the
    text states (where there are any), and the output's.

    The caller norms x and adds the result to it. `out_scale` is the initial standard deviation of
    the output projection (0: zeros). With rotary positions image queries and keys turn with their
    places (row, column); text keys do not.
    """

    heads: int
    head_size: int
    out_scale: float
    options: AttentionOptions

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        context: Float[Array, "b m w"] | None = None,
        attend: Float[Array, "b m"] | None = None,
        places: Float[Array, "n 2"] | None = None,
    ) -> Float[Array, "b n d"]:
        o = self.options
        # whole rows of heads, whatever the layout
        q, k, v = (constrain(y, *HEADS_FIRST) for y in self._projection("qkv", x, 3))
        text = None
        if context is not None:
            text_k, text_v = (
                constrain(y, *HEADS_FIRST) for y in self._projection("text_kv", context, 2)
            )
            text = (self._normed("text_k_scale", text_k) if o.qk_norm else text_k), text_v
        if o.qk_norm:
            q, k = self._normed("q_scale", q), self._normed("k_scale", k)
        if o.rotary_base and places is not None:
            q, k = (
                jnp.moveaxis(rotate(jnp.moveaxis(y, 1, 2), places, o.rotary_base), 2, 1)
                for y in (q, k)
            )
        mixed = attend_jointly(q, (k, v), text, attend, o)
        mixed = constrain(mixed, "batch", "heads", "length", "head_dim")
        mixed = checkpoint_name(mixed, "attention_out")
        zeros = nn.initializers.zeros_init()
        init = nn.initializers.normal(self.out_scale) if self.out_scale else zeros
        out = self.param(
            "out",
            named(init, "heads", "head_dim", "embed"),
            (self.heads, self.head_size, x.shape[-1]),
            jnp.float32,
        )
        bias = self.param("out_bias", named(zeros, "embed"), (x.shape[-1],), jnp.float32)
        return jnp.einsum("bhnk,hkd->bnd", mixed, out.astype(o.dtype)) + bias.astype(o.dtype)

    def _projection(self, name: str, x: Array, kinds: int) -> list[Array]:
        """`kinds` linear functions of x, each [b h l k]."""
        shape, zeros = (kinds, self.heads, self.head_size), nn.initializers.zeros_init()
        init, dtype = nn.initializers.normal(x.shape[-1] ** -0.5), self.options.dtype
        kernel = self.param(
            name,
            named(init, "embed", None, "heads", "head_dim"),
            (x.shape[-1], *shape),
            jnp.float32,
        )
        bias = self.param(
            f"{name}_bias", named(zeros, None, "heads", "head_dim"), shape, jnp.float32
        )
        y = jnp.einsum("bld,dzhk->zbhlk", x.astype(dtype), kernel.astype(dtype))
        y = y + bias.astype(dtype)[:, None, :, None]
        y = checkpoint_name(constrain(y, None, "batch", "heads", "length", "head_dim"), "qkv")
        return [y[z] for z in range(kinds)]

    def _normed(self, name: str, x: Array) -> Array:
        """x over its root mean square, with a learned scale of this name."""
        ones = named(nn.initializers.ones_init(), "head_dim")
        return rms_norm(x, self.param(name, ones, (self.head_size,), jnp.float32))
