"""Attention of one new position against a cache of keys and values, reading only the contiguous
slices that its pattern sees.

Separate from nn/attention.py because it reads where that multiplies: slices and never gathers,
since on TPU a gather copies the whole cache: one dense layer and token took 1,064 us on v5e,
`jnp.take` 4,260 to 4,320, a slice 399 to 665 (XLA's estimates). A cache is {"text_k", "text_v":
[b, h, m, k], "image_k", "image_v": [b, h, n, k]}, the image in the order of the pattern (a column
layer's column by column), so that what is visible is contiguous.

A step reads the old cache and writes afterwards, the new position being a source of its own, and
what it writes is made to depend on what it read. Otherwise XLA (seen on CPU, jax 0.10.2) fuses the
write into the reads or leaves them unordered, and then copies whole caches every step, which costs
more than dense attention. For the same reason do not scan over layers when decoding: caches that
are xs and ys of a scan are copied whole; unroll the layers and carry every layer's cache through
the loop over positions."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.config import require
from vilg.nn.attention import Source, softmax_over
from vilg.nn.patterns import Grid, PatternOptions, check_direction, check_grid, make_pattern
from vilg.parallel.constrain import constrain

Cache = dict[str, Array]


def init_cache(
    batch: int,
    heads: int,
    head_size: int,
    *,
    text_length: int,
    grid: Grid,
    pattern: str,
    direction: str,
    dtype: Any = jnp.float32,
    options: PatternOptions | None = None,
) -> Cache:
    """An empty cache of one layer; errors: UserError for an unknown pattern or direction, or a bad
    grid.
    """
    make_pattern(pattern, options)
    check_direction(direction)
    check_grid(grid)
    sizes = {"text": text_length, "image": grid[0] * grid[1]}
    return {
        f"{segment}_{kind}": _placed(jnp.zeros((batch, heads, size, head_size), dtype))
        for segment, size in sizes.items()
        for kind in "kv"
    }


def prefill(
    cache: Cache,
    k: Float[Array, "b s h k"],
    v: Float[Array, "b s h k"],
    target_k: Float[Array, "b t h k"] | None = None,
    target_v: Float[Array, "b t h k"] | None = None,
    *,
    pattern: str,
    direction: str,
    text_length: int,
    grid: Grid,
    options: PatternOptions | None = None,
) -> Cache:
    """The cache with the whole source segment in it and, if given, the first t positions of the
    target (raster order).

    Errors: UserError if the source has not the segment's length, or t exceeds the target's.
    """
    check_direction(direction)
    source, target = ("text", "image") if direction == "text_to_image" else ("image", "text")
    size = cache[f"{source}_k"].shape[2]
    require(
        k.shape[1] == size,
        "grid",
        grid,
        f"with text_length={text_length} the {source} segment has {size} positions, got"
        f" {k.shape[1]}",
    )
    column_major = _column_major(pattern, direction, options)
    out = dict(cache)
    for name, x in (
        (f"{source}_k", k),
        (f"{source}_v", v),
        (f"{target}_k", target_k),
        (f"{target}_v", target_v),
    ):
        if x is None:
            continue
        size = cache[name].shape[2]
        require(
            x.shape[1] <= size,
            "grid",
            grid,
            f"the {name[:-2]} segment has {size} positions, got {x.shape[1]}",
        )
        x = x.swapaxes(1, 2).astype(cache[name].dtype)
        if name.startswith("image") and column_major:
            x = jnp.pad(x, ((0, 0), (0, 0), (0, size - x.shape[2]), (0, 0)))
            x = x.reshape(*x.shape[:2], *grid, -1).swapaxes(2, 3).reshape(x.shape)
        out[name] = _placed(jax.lax.dynamic_update_slice(cache[name], x, (0, 0, 0, 0)))
    return out


def decode_step(
    cache: Cache,
    q: Float[Array, "b 1 h k"],
    k: Float[Array, "b 1 h k"],
    v: Float[Array, "b 1 h k"],
    position: Any,
    *,
    pattern: str,
    direction: str,
    text_length: int,
    grid: Grid,
    options: PatternOptions | None = None,
) -> tuple[Float[Array, "b 1 h k"], Cache]:
    """What `attend` gives at one target position, and the cache with that position in it.

    `position` (int32 scalar, may be traced, the same for all rows) is the image's raster index for
    text_to_image, the text's index for image_to_text; all earlier target positions must be in the
    cache. Errors: UserError if the cache is of another size."""
    check_direction(direction)
    sizes = (cache["text_k"].shape[2], cache["image_k"].shape[2])
    require(
        sizes == (text_length, grid[0] * grid[1]),
        "grid",
        grid,
        f"the cache holds {sizes} text and image positions; make it anew",
    )
    dtype = cache["text_k"].dtype
    query, key, value = (x.swapaxes(1, 2) for x in (q, k, v))
    key, value = key.astype(dtype), value.astype(dtype)
    index = jnp.asarray(position, jnp.int32)
    if direction == "text_to_image":
        target = "image"
        if _column_major(pattern, direction, options):
            index = jax.lax.rem(index, grid[1]) * grid[0] + jax.lax.div(index, grid[1])
        sources: list[Source] = [(cache["text_k"], cache["text_v"], None)]
        reads = make_pattern(pattern, options).earlier(index, grid)
    else:
        target = "text"
        sources = [(cache["image_k"], cache["image_v"], None)]
        reads = [(0, text_length, jnp.arange(text_length) < index)]
    sources.append((key, value, None))
    keys, values = (
        [_read(cache[f"{target}_{kind}"], start, length) for start, length, _ in reads]
        for kind in "kv"
    )
    sources.append(
        (
            jnp.concatenate(keys, axis=2),
            jnp.concatenate(values, axis=2),
            jnp.concatenate([mask for *_, mask in reads]),
        )
    )
    out = softmax_over(query.astype(dtype), sources)
    written = dict(cache)
    for name, x in ((f"{target}_k", key), (f"{target}_v", value)):
        x = jnp.where(
            jnp.isnan(out), out.astype(dtype), x
        )  # the write depends on the reads (module docstring); x unless NaN
        written[name] = _placed(jax.lax.dynamic_update_slice(cache[name], x, (0, 0, index, 0)))
    return out.swapaxes(1, 2).astype(q.dtype), written


def _read(x: Array, start: Any, length: int) -> Array:
    return x if length == x.shape[2] else jax.lax.dynamic_slice_in_dim(x, start, length, axis=2)


def _column_major(pattern: str, direction: str, options: PatternOptions | None) -> bool:
    """Only an image that is the target is read in parts."""
    return direction == "text_to_image" and make_pattern(pattern, options).column_major


def _placed(x: Array) -> Array:
    return constrain(x, "batch", "heads", None, "head_dim")
