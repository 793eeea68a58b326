"""Block-wise attention over [text ; image]: only the blocks at which a pattern sees anything are
computed, by ordinary products that run on every device.

Separate from attention.py, which chooses among implementations. Image positions are cut into blocks
of a row (of a column, for a pattern that is column-major). A block of queries meets the block of
keys `offset` blocks earlier as one batched product, for the few offsets at which the pattern sees
anything, and one float32 softmax runs over all of these keys and the text. Batch and heads stay
leading dimensions of every product, so that a layout can shard both.

Measured on 2 shared CPU cores (load 8; the command is in vilg/run/bench/attention.py) at lite
width, 64 + 32 x 32 positions, float32, forward and backward pass of the ERNIE-ViLG mix of 24
layers: text_to_image 5.5 times faster than the dense path with 0.17 of its temporaries (row 5.2,
column 7.6, convolution 3.6 times); image_to_text 7.2 times with 0.14 (row 7.9, column 8.5,
convolution 2.2 times).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vilg.nn.geometry import Geometry
from vilg.nn.patterns import Grid
from vilg.nn.softmax import Source, softmax_over

# Beyond MANY_OFFSETS offsets the blocks of queries are taken BLOCKS_AT_ONCE at a time, which bounds
# the temporaries.
MANY_OFFSETS = 4
BLOCKS_AT_ONCE = 8


def blockwise(
    q: Float[Array, "b l h k"],
    k: Float[Array, "b l h k"],
    v: Float[Array, "b l h k"],
    geometry: Geometry,
) -> Float[Array, "b l h k"]:
    """An entry of attention.IMPLEMENTATIONS: attention of the whole stream."""
    m = geometry.text_length
    q, k, v = heads_first(q), heads_first(k), heads_first(v)
    (q_text, q_image), (k_text, k_image), (v_text, v_image) = (
        jnp.split(x, [m], axis=2) for x in (q, k, v)
    )
    if geometry.image_is_target:
        text = softmax_over(q_text, [(k_text, v_text, None)])
        image = attend_image(q_image, k_image, v_image, [(k_text, v_text, None)], geometry)
    else:
        causal = np.tril(np.ones((m, m), bool))
        text = softmax_over(q_text, [(k_image, v_image, None), (k_text, v_text, causal)])
        image = attend_image(q_image, k_image, v_image, [], geometry)
    return heads_first(jnp.concatenate([text, image], axis=2))


def heads_first(x: Array) -> Array:
    """[b, l, h, k] as [b, h, l, k], and back."""
    return x.swapaxes(1, 2)


@dataclass(frozen=True)
class Meeting:
    """Query blocks with the key blocks `offset` blocks earlier, of which only the positions low to
    high - 1 are ever seen. `mask` is [blocks or 1, block, high - low] (None: all are seen).
    """

    offset: int
    low: int
    high: int
    mask: np.ndarray | None


@functools.lru_cache(maxsize=64)
def meetings(geometry: Geometry) -> tuple[Meeting, ...]:
    """The pairs of blocks at which the pattern sees anything, derived from its definition."""
    pattern, grid = geometry.pattern, geometry.grid
    block = pattern.block(grid)
    order = np.arange(geometry.image_length)
    if pattern.column_major:
        order = order.reshape(grid).T.reshape(-1)
    count = order.size // block
    blocks = order.reshape(count, block)
    out = []
    for offset in range(1 - count, count):
        keys = np.roll(blocks, offset, axis=0)
        seen = pattern.sees(geometry.direction, blocks[:, :, None], keys[:, None, :], grid)
        mask = np.array(seen)
        earlier = np.arange(count) - offset
        mask &= ((earlier >= 0) & (earlier < count))[:, None, None]
        used = np.flatnonzero(mask.any((0, 1)))
        if used.size:
            low, high = int(used[0]), int(used[-1]) + 1
            out.append(Meeting(offset, low, high, _smallest(mask[:, :, low:high])))
    return tuple(out)


def _smallest(mask: np.ndarray) -> np.ndarray | None:
    """None for a mask that hides nothing, one block's mask where those of all blocks are equal."""
    if mask.all():
        return None
    return mask[:1] if (mask == mask[:1]).all() else mask


def attend_image(
    q: Float[Array, "b h n k"],
    k: Float[Array, "b h n k"],
    v: Float[Array, "b h n k"],
    shared: Sequence[Source],
    geometry: Geometry,
) -> Float[Array, "b h n k"]:
    """Attention of image queries to the `shared` sources (the text, or none) and to the image keys
    that the pattern sees.
    """
    pattern, pairs = geometry.pattern, meetings(geometry)
    block = pattern.block(geometry.grid)
    count = q.shape[2] // block
    q, k, v = (_to_blocks(x, block, pattern.column_major, geometry.grid) for x in (q, k, v))
    group = count
    if len(pairs) > MANY_OFFSETS:
        group = max(d for d in range(1, min(BLOCKS_AT_ONCE, count) + 1) if count % d == 0)
    before = max(max(pair.offset for pair in pairs), 0)
    after = max(-min(pair.offset for pair in pairs), 0)
    k, v = (jnp.pad(x, ((0, 0), (0, 0), (before, after), (0, 0), (0, 0))) for x in (k, v))

    def attend_group(
        q: Array, k: Array, v: Array, masks: Sequence[Array | np.ndarray | None]
    ) -> Array:
        sources = list(shared)
        for pair, mask in zip(pairs, masks, strict=True):
            blocks = slice(before - pair.offset, before - pair.offset + group)
            keys, values = (x[:, :, blocks, pair.low : pair.high] for x in (k, v))
            sources.append((keys, values, mask))
        return softmax_over(q, sources)

    if group == count:
        out = attend_group(q, k, v, [pair.mask for pair in pairs])
    else:
        # A group's softmax is computed again in the backward pass, so that neither all groups nor
        # all weights exist at once.
        starts = range(0, count, group)
        masks = [
            None if pair.mask is None else np.broadcast_to(pair.mask, (count, *pair.mask.shape[1:]))
            for pair in pairs
        ]
        stacked = (
            jnp.stack([q[:, :, s : s + group] for s in starts]),
            *(jnp.stack([x[:, :, s : s + group + before + after] for s in starts]) for x in (k, v)),
            [
                None if mask is None else mask.reshape(len(starts), group, *mask.shape[1:])
                for mask in masks
            ],
        )
        out = jax.lax.map(jax.checkpoint(lambda xs: attend_group(*xs)), stacked)
        out = jnp.concatenate(list(out), axis=2)
    return _from_blocks(out, pattern.column_major)


def _to_blocks(x: Array, block: int, column_major: bool, grid: Grid) -> Array:
    """[b, h, n, k] in raster order as [b, h, blocks, block, k]."""
    b, h, n, size = x.shape
    if column_major:
        return x.reshape(b, h, *grid, size).swapaxes(2, 3)
    return x.reshape(b, h, n // block, block, size)


def _from_blocks(x: Array, column_major: bool) -> Array:
    """[b, h, blocks, block, k] as [b, h, n, k] in raster order."""
    x = x.swapaxes(2, 3) if column_major else x
    return x.reshape(*x.shape[:2], -1, x.shape[-1])
