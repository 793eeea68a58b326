"""Attention over the stream [text ; image]: one entry for every implementation, and the table of
them.

    blockwise    only the blocks that a pattern sees, by ordinary products (blockwise.py)
    dense        all pairs, then a mask: the reference with which the others are compared
    dot_product  jax.nn.dot_product_attention, cuDNN's kernel on a GPU where it takes the arrays
    splash       a Pallas kernel for TPUs (splash.py)
    auto         one of these, by the devices that the program is compiled for

Separate from the patterns and the geometry, which only say who sees whom, and from decoding, which
has a cache. Projections, norms and rematerialisation belong to the transformer.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vilg.config import lookup, require
from vilg.nn.blockwise import attend_image, blockwise, heads_first
from vilg.nn.geometry import Geometry
from vilg.nn.softmax import HIDDEN, softmax_over
from vilg.nn.splash import splash
from vilg.parallel.constrain import constrain, platform

Attention = Callable[[Array, Array, Array, Geometry], Array]


def attend(
    q: Float[Array, "b l h k"],
    k: Float[Array, "b l h k"],
    v: Float[Array, "b l h k"],
    geometry: Geometry,
    implementation: str = "blockwise",
) -> Float[Array, "b l h k"]:
    """Softmax attention of the whole stream, scaled by k**-0.5, the softmax in float32.

    A rematerialisation policy saves the result, or what the kernel's backward pass needs of it, by
    the name "attention_out". Errors: UserError for an unknown implementation, or a stream that has
    not the geometry's length.
    """
    require(
        q.shape[1] == geometry.length,
        "grid",
        geometry.grid,
        f"with text_length={geometry.text_length} needs {geometry.length} positions, the stream has"
        f" {q.shape[1]}",
    )
    name = resolve(implementation)
    # a layout that splits positions splits the heads here instead
    q, k, v = (constrain(x, "batch", None, "heads", "head_dim") for x in (q, k, v))
    out = IMPLEMENTATIONS[name](q, k, v, geometry)
    out = constrain(out, "batch", "length", "heads", "head_dim")
    return out if name in NAMES_ITS_OUTPUT else checkpoint_name(out, "attention_out")


def attend_source(
    q: Float[Array, "b l h k"],
    k: Float[Array, "b l h k"],
    v: Float[Array, "b l h k"],
    geometry: Geometry,
) -> Float[Array, "b l h k"]:
    """The result of `attend` at the source segment, which never sees the target, from the source's
    arrays alone: the text in the direction text_to_image, else the image.

    Errors: UserError if the arrays have not the segment's length.
    """
    segment = geometry.text_length if geometry.image_is_target else geometry.image_length
    require(
        q.shape[1] == segment,
        "grid",
        geometry.grid,
        f"the source of {geometry.direction} has {segment} positions, got {q.shape[1]}",
    )
    q, k, v = heads_first(q), heads_first(k), heads_first(v)
    if geometry.image_is_target:
        return heads_first(softmax_over(q, [(k, v, None)]))
    return heads_first(attend_image(q, k, v, [], geometry))


def resolve(implementation: str) -> str:
    """The name of the implementation that runs: "auto" goes by the devices that the program being
    traced is compiled for. Errors: UserError for an unknown name.
    """
    check_implementation(implementation, "implementation")
    return AUTO[platform()] if implementation == "auto" else implementation


def check_implementation(
    name: str, field: str, known: Mapping[str, Callable] | None = None
) -> None:
    """Raises a UserError for a name that is neither "auto" nor in `known` (None: the table
    IMPLEMENTATIONS).
    """
    lookup({"auto": None, **(known or IMPLEMENTATIONS)}, name, field)


def dense(
    q: Float[Array, "b l h k"],
    k: Float[Array, "b l h k"],
    v: Float[Array, "b l h k"],
    geometry: Geometry,
) -> Float[Array, "b l h k"]:
    """All pairs, then a mask, in the form of jax.nn.dot_product_attention: the reference."""
    scaled = (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)
    logits = jnp.einsum("bqhk,bshk->bhqs", scaled, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.where(geometry.mask(), logits, HIDDEN), axis=-1)
    return jnp.einsum("bhqs,bshk->bqhk", weights.astype(v.dtype), v)


def dot_product(
    q: Float[Array, "b l h k"],
    k: Float[Array, "b l h k"],
    v: Float[Array, "b l h k"],
    geometry: Geometry,
) -> Float[Array, "b l h k"]:
    """All pairs and a mask as one call of JAX's: cuDNN's flash attention on a GPU in half
    precision, else XLA's products.
    """
    mask = jnp.asarray(geometry.mask())[None, None]
    kernel = dot_product_kernel(q, masked=True)
    return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation=kernel)


def dot_product_kernel(q: Float[Array, "b l h k"], masked: bool) -> Literal["cudnn", "xla"]:
    """The implementation of jax.nn.dot_product_attention that takes these queries: cuDNN's on a
    GPU, in half precision, for heads of a multiple of 8 up to 128, and under a mask for an even
    number of positions; else XLA's.
    """
    fits = q.shape[3] % 8 == 0 and q.shape[3] <= 128 and not (masked and q.shape[1] % 2)
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    return "cudnn" if platform() == "gpu" and half and fits else "xla"


IMPLEMENTATIONS: dict[str, Attention] = {
    "blockwise": blockwise,
    "dense": dense,
    "dot_product": dot_product,
    "splash": splash,
}
# the implementation that "auto" stands for, by the platform of the program's devices
AUTO = {"tpu": "splash", "gpu": "dot_product", "cpu": "blockwise"}
NAMES_ITS_OUTPUT = ("splash",)  # its kernel names what its own backward pass needs
