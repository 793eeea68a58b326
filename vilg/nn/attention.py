"""Attention over [text ; image] under a pattern: block-wise (only the visible blocks are computed),
as a masked dense product, or by kernels of TPUs (splash.py) and GPUs (jax.nn.dot_product_attention,
cuDNN's where its types allow); "auto" goes by the devices that the program is for.

Separate from the patterns, which only say who sees whom, and from decoding, which has a cache.
Block-wise, image positions are cut into blocks of a row (or, columns first, of a column); a block
of queries meets the block of keys `offset` blocks earlier as one batched product, for the few
offsets at which anything is visible, and one float32 softmax runs over all of them and the text.
Batch and heads stay leading dimensions of every product, so both shard. Projections, norms and
rematerialisation belong to the transformer.

Measured on 2 shared CPU cores (load 8; command in vilg/run/bench/attention.py), lite width, 64 + 32
x 32 positions, f32, forward + backward of the ERNIE-ViLG mix of 24 layers: text_to_image 5.5 times
faster than the dense path with 0.17 of its temporaries (row 5.2, column 7.6, convolution 3.6
times), image_to_text 7.2 times and 0.14 (row 7.9, column 8.5, convolution 2.2 times)."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vilg.config import lookup, require
from vilg.nn.patterns import (
    Grid,
    Pattern,
    PatternOptions,
    check_direction,
    check_grid,
    make_pattern,
    visible,
)
from vilg.nn.splash import ordered_splash, splash, whole_blocks
from vilg.parallel.constrain import constrain, platform

__all__ = [
    "IMPLEMENTATIONS",
    "PatternOptions",
    "attend",
    "attend_source",
    "check_implementation",
    "dot_product_kernel",
    "ordered",
    "softmax_over",
]

Source = tuple[Array, Array, Array | np.ndarray | None]  # keys, values, what is visible (None: all)
HIDDEN = -1e30  # a finite float32, so that no difference of two of them is NaN
# beyond this many offsets the rows of blocks are taken a group at a time, which bounds the
# temporaries
WIDE = 4
GROUP = 8  # blocks in a group


def attend(
    q: Float[Array, "b l h k"],
    k: Float[Array, "b l h k"],
    v: Float[Array, "b l h k"],
    *,
    pattern: str,
    direction: str,
    text_length: int,
    grid: Grid,
    options: PatternOptions | None = None,
    implementation: str = "blockwise",
) -> Float[Array, "b l h k"]:
    """Softmax attention of the whole stream, l = text_length + rows * columns, scaled by k**-0.5,
    softmax in float32. What a rematerialisation policy may save of it is named "attention_out".

    Errors: UserError for an unknown pattern, direction or implementation, or a length that is not
    text + grid."""
    chosen = make_pattern(pattern, options)
    check_direction(direction)
    check_grid(grid)
    expected = text_length + grid[0] * grid[1]
    require(
        q.shape[1] == expected,
        "grid",
        grid,
        f"with text_length={text_length} needs {expected} positions, the stream has {q.shape[1]}",
    )
    name = _named(implementation)
    q, k, v = (
        constrain(x, "batch", None, "heads", "head_dim") for x in (q, k, v)
    )  # a layout that splits positions splits heads here
    out = IMPLEMENTATIONS[name](q, k, v, chosen, direction, text_length, grid)
    out = constrain(out, "batch", "length", "heads", "head_dim")
    return out if name in NAMES_ITSELF else checkpoint_name(out, "attention_out")


class Ordered(NamedTuple):
    """An implementation in an order of its own, which spares a layer turning arrays around:
    `attend` takes q (scaled), k and v as [b h k l], columns first where the pattern says so, and
    gives [b h l k]; `whole(l)` is the length to which it pads what is shorter."""

    attend: Callable
    whole: Callable[[int], int]


def ordered(implementation: str) -> Ordered | None:
    """The implementation in its own order, if it has one."""
    return ORDERED.get(_named(implementation))


def _named(implementation: str) -> str:
    check_implementation(implementation, "implementation")
    return AUTO[platform()] if implementation == "auto" else implementation


def check_implementation(
    name: str, field: str, known: Mapping[str, Callable] | None = None
) -> None:
    """Errors: UserError for what is neither "auto" nor in `known` (None: IMPLEMENTATIONS)."""
    lookup({"auto": AUTO, **(known or IMPLEMENTATIONS)}, name, field)


def attend_source(
    q: Float[Array, "b l h k"],
    k: Float[Array, "b l h k"],
    v: Float[Array, "b l h k"],
    *,
    pattern: str,
    direction: str,
    text_length: int,
    grid: Grid,
    options: PatternOptions | None = None,
) -> Float[Array, "b l h k"]:
    """What `attend` gives at the source segment (it never sees the target): text for text_to_image,
    else the image.

    Errors: UserError as `attend`, the length being that of the segment.
    """
    chosen = make_pattern(pattern, options)
    check_direction(direction)
    check_grid(grid)
    image = direction == "image_to_text"
    expected = grid[0] * grid[1] if image else text_length
    require(
        q.shape[1] == expected,
        "grid",
        grid,
        f"the source of {direction} has {expected} positions, got {q.shape[1]}",
    )
    q, k, v = _heads_first(q), _heads_first(k), _heads_first(v)
    return _heads_first(
        _image(q, k, v, [], chosen, direction, grid) if image else softmax_over(q, [(k, v, None)])
    )


def softmax_over(queries: Float[Array, "b h *g s k"], sources: list[Source]) -> Array:
    """Attention with one softmax over several sources (keys, values, mask or None), which are never
    concatenated.

    Sources are [b, h, *g, s, k] in step with the queries' blocks, or [b, h, s, k], which every
    block sees. Scaled, float32 inside. In half precision the weights are summed by the product with
    the values, as one more value of ones: a pass over them less, and free where a TPU pads heads to
    128 lanes."""
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
    summed = queries.dtype != jnp.float32 and queries.shape[-1] % 128 != 0
    total, out = (
        jnp.zeros_like(highest),
        jnp.zeros((*queries.shape[:-1], queries.shape[-1] + summed), jnp.float32),
    )
    for part, (_, values, _) in zip(logits, sources, strict=True):
        weights = jnp.exp(part - highest)
        if summed:
            values = jnp.concatenate([values, jnp.ones_like(values[..., :1])], -1)
        else:
            total = total + weights.sum(-1, keepdims=True)
        out = out + jnp.einsum(
            f"{_axes(queries)}qs,{_axes(values)}sk->{_axes(queries)}qk",
            weights.astype(values.dtype),
            values,
            preferred_element_type=jnp.float32,
        )
    if summed:
        out, total = out[..., :-1], out[..., -1:]
    return (out / total).astype(queries.dtype)


def _axes(x: Array) -> str:
    return "bhr"[: x.ndim - 2]


def _heads_first(x: Array) -> Array:
    return x.swapaxes(1, 2)


def _dense(
    q: Array, k: Array, v: Array, pattern: Pattern, direction: str, text_length: int, grid: Grid
) -> Array:
    """All pairs, then a mask: what every pattern is compared with. The form of
    jax.nn.dot_product_attention.
    """
    scaled = (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)
    logits = jnp.einsum("bqhk,bshk->bhqs", scaled, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(
        jnp.where(visible(pattern, direction, text_length, grid), logits, HIDDEN), axis=-1
    )
    return jnp.einsum("bhqs,bshk->bqhk", weights.astype(v.dtype), v)


def _blockwise(
    q: Array, k: Array, v: Array, pattern: Pattern, direction: str, text_length: int, grid: Grid
) -> Array:
    q, k, v = _heads_first(q), _heads_first(k), _heads_first(v)
    (q_text, q_image), (k_text, k_image), (v_text, v_image) = (
        jnp.split(x, [text_length], axis=2) for x in (q, k, v)
    )
    if direction == "text_to_image":
        text = softmax_over(q_text, [(k_text, v_text, None)])
        image = _image(
            q_image, k_image, v_image, [(k_text, v_text, None)], pattern, direction, grid
        )
    else:
        causal = np.tril(np.ones((text_length, text_length), bool))
        text = softmax_over(q_text, [(k_image, v_image, None), (k_text, v_text, causal)])
        image = _image(q_image, k_image, v_image, [], pattern, direction, grid)
    return _heads_first(jnp.concatenate([text, image], axis=2))


def _dot_product(
    q: Array, k: Array, v: Array, pattern: Pattern, direction: str, text_length: int, grid: Grid
) -> Array:
    """All pairs and a mask, as one call: cuDNN's flash attention on a GPU in half precision, else
    XLA's products.
    """
    mask = jnp.asarray(visible(pattern, direction, text_length, grid))[None, None]
    return jax.nn.dot_product_attention(
        q, k, v, mask=mask, implementation=dot_product_kernel(q, masked=True)
    )


def dot_product_kernel(q: Float[Array, "b l h k"], masked: bool) -> Literal["cudnn", "xla"]:
    """Which implementation of jax.nn.dot_product_attention takes these queries: cuDNN's on a GPU,
    in half precision, for heads of a multiple of 8 up to 128, and under a mask for an even number
    of positions; else XLA's."""
    fits = q.shape[3] % 8 == 0 and q.shape[3] <= 128 and not (masked and q.shape[1] % 2)
    return (
        "cudnn"
        if platform() == "gpu" and q.dtype in (jnp.bfloat16, jnp.float16) and fits
        else "xla"
    )


AUTO = {
    "tpu": "splash",
    "gpu": "dot_product",
    "cpu": "blockwise",
}  # what "auto" is, by the platform of the program's devices
IMPLEMENTATIONS = {
    "blockwise": _blockwise,
    "dense": _dense,
    "dot_product": _dot_product,
    "splash": splash,
}
ORDERED = {"splash": Ordered(ordered_splash, whole_blocks)}
NAMES_ITSELF = ("splash",)  # its kernel names what its own backward pass needs


@dataclass(frozen=True)
class Meeting:
    """Query blocks with the key blocks `offset` blocks earlier, of which only positions low..high
    are ever visible.
    """

    offset: int
    low: int
    high: int
    mask: np.ndarray | None  # [blocks or 1, block, high - low]; None: all visible


@functools.lru_cache(maxsize=64)
def _meetings(pattern: Pattern, direction: str, grid: Grid) -> tuple[Meeting, ...]:
    """The block pairs at which the pattern sees anything, read off its definition."""
    block = pattern.block(grid)
    order = np.arange(grid[0] * grid[1])
    if pattern.column_major:
        order = order.reshape(grid).T.reshape(-1)
    count = order.size // block
    blocks = order.reshape(count, block)
    found = []
    for offset in range(1 - count, count):
        keys = np.roll(blocks, offset, axis=0)
        mask = np.array(pattern.sees(direction, blocks[:, :, None], keys[:, None, :], grid))
        exists = np.arange(count) - offset
        mask &= ((exists >= 0) & (exists < count))[:, None, None]
        used = np.flatnonzero(mask.any((0, 1)))
        if used.size:
            low, high = int(used[0]), int(used[-1]) + 1
            mask = mask[:, :, low:high]
            found.append(Meeting(offset, low, high, _smallest(mask)))
    return tuple(found)


def _smallest(mask: np.ndarray) -> np.ndarray | None:
    if mask.all():
        return None
    return mask[:1] if (mask == mask[:1]).all() else mask


def _image(
    q: Array, k: Array, v: Array, shared: list, pattern: Pattern, direction: str, grid: Grid
) -> Array:
    """Image queries on `shared` sources and on the image keys of their pattern; [b, h, n, k]
    throughout.
    """
    meetings = _meetings(pattern, direction, grid)
    block = pattern.block(grid)
    count = q.shape[2] // block
    q, k, v = (_to_blocks(x, block, pattern.column_major, grid) for x in (q, k, v))
    group = (
        max(d for d in range(1, min(GROUP, count) + 1) if count % d == 0)
        if len(meetings) > WIDE
        else count
    )
    before, after = (
        max(max(m.offset for m in meetings), 0),
        max(-min(m.offset for m in meetings), 0),
    )
    k, v = (jnp.pad(x, ((0, 0), (0, 0), (before, after), (0, 0), (0, 0))) for x in (k, v))

    def one(q: Array, k: Array, v: Array, masks: list) -> Array:
        sources = list(shared)
        for m, mask in zip(meetings, masks, strict=True):
            rows = slice(before - m.offset, before - m.offset + group)
            sources.append((k[:, :, rows, m.low : m.high], v[:, :, rows, m.low : m.high], mask))
        return softmax_over(q, sources)

    if group == count:
        out = one(q, k, v, [m.mask for m in meetings])
    else:
        # A group at a time, and its softmax computed again in the backward pass: neither all groups
        # nor all weights exist at once.
        starts = range(0, count, group)
        masks = [
            None if m.mask is None else np.broadcast_to(m.mask, (count, *m.mask.shape[1:]))
            for m in meetings
        ]
        stacked = (
            jnp.stack([q[:, :, s : s + group] for s in starts]),
            *(jnp.stack([x[:, :, s : s + group + before + after] for s in starts]) for x in (k, v)),
            [
                None if mask is None else mask.reshape(len(starts), group, *mask.shape[1:])
                for mask in masks
            ],
        )
        out = jax.lax.map(jax.checkpoint(lambda xs: one(*xs)), stacked)
        out = jnp.concatenate(list(out), axis=2)
    return _from_blocks(out, pattern.column_major)


def _to_blocks(x: Array, block: int, column_major: bool, grid: Grid) -> Array:
    b, h, n, size = x.shape
    if column_major:
        return x.reshape(b, h, *grid, size).swapaxes(2, 3)
    return x.reshape(b, h, n // block, block, size)


def _from_blocks(x: Array, column_major: bool) -> Array:
    x = x.swapaxes(2, 3) if column_major else x
    return x.reshape(*x.shape[:2], -1, x.shape[-1])
