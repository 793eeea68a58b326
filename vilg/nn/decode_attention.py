"""Attention of one new position to a cache of keys and values, which reads only the contiguous
slices of the cache that its pattern sees.

Separate from attention.py because a step reads instead of masking: slices and never gathers, since
on a TPU a gather copies the whole cache (by XLA's estimates for v5e, one layer and token of the
dense pattern take 1,064 us, with `jnp.take` 4,260 to 4,320, with a slice 399 to 665). A cache is
{"text_k", "text_v": [b, h, m, k], "image_k", "image_v": [b, h, n, k]}, its image positions in the
order of the pattern (column by column for a column layer), so that the visible ones are contiguous.

A step reads the old cache and writes afterwards, the new position being a source of its own, and
the array that it writes is made to depend on the arrays that it read. Otherwise XLA (seen on CPU,
jax 0.10.2) fuses the write into the reads or leaves them unordered, and then copies whole caches
every step, which costs more than dense attention. For the same reason layers must not be scanned
when decoding: caches that are inputs and outputs of a scan are copied whole. Unroll the layers and
carry every layer's cache through the loop over positions.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from vilg.config import require
from vilg.nn.geometry import Geometry
from vilg.nn.softmax import Source, softmax_over
from vilg.parallel.constrain import constrain

Cache = dict[str, Array]


def init_cache(
    geometry: Geometry, batch: int, heads: int, head_size: int, dtype: DTypeLike = jnp.float32
) -> Cache:
    """An empty cache of one layer."""
    lengths = {"text": geometry.text_length, "image": geometry.image_length}
    return {
        f"{segment}_{kind}": _placed(jnp.zeros((batch, heads, length, head_size), dtype))
        for segment, length in lengths.items()
        for kind in "kv"
    }


def prefill(
    cache: Cache,
    geometry: Geometry,
    k: Float[Array, "b s h k"],
    v: Float[Array, "b s h k"],
    target_k: Float[Array, "b t h k"] | None = None,
    target_v: Float[Array, "b t h k"] | None = None,
) -> Cache:
    """The cache with the whole source segment in it and, if given, the first t positions of the
    target (in raster order).

    Errors: UserError if the source has not the segment's length, or t exceeds the target's.
    """
    source, target = ("text", "image") if geometry.image_is_target else ("image", "text")
    length = cache[f"{source}_k"].shape[2]
    require(
        k.shape[1] == length,
        "grid",
        geometry.grid,
        f"with text_length={geometry.text_length} the {source} segment has {length} positions, got"
        f" {k.shape[1]}",
    )
    out = dict(cache)
    for name, x in (
        (f"{source}_k", k),
        (f"{source}_v", v),
        (f"{target}_k", target_k),
        (f"{target}_v", target_v),
    ):
        if x is None:
            continue
        length = cache[name].shape[2]
        require(
            x.shape[1] <= length,
            "grid",
            geometry.grid,
            f"the {name[:-2]} segment has {length} positions, got {x.shape[1]}",
        )
        x = x.swapaxes(1, 2).astype(cache[name].dtype)
        if name.startswith("image") and _column_major(geometry):
            x = jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[2]), (0, 0)))
            x = x.reshape(*x.shape[:2], *geometry.grid, -1).swapaxes(2, 3).reshape(x.shape)
        out[name] = _placed(jax.lax.dynamic_update_slice(cache[name], x, (0, 0, 0, 0)))
    return out


def decode_step(
    cache: Cache,
    geometry: Geometry,
    q: Float[Array, "b 1 h k"],
    k: Float[Array, "b 1 h k"],
    v: Float[Array, "b 1 h k"],
    position: int | Int[Array, ""],
) -> tuple[Float[Array, "b 1 h k"], Cache]:
    """The result of `attend` at one target position, and the cache with that position in it.

    `position` (int32, may be traced, the same for all rows) is the image's raster index in the
    direction text_to_image, the text's index in image_to_text. All earlier target positions must be
    in the cache. Errors: UserError if the cache is of another size.
    """
    sizes = (cache["text_k"].shape[2], cache["image_k"].shape[2])
    require(
        sizes == (geometry.text_length, geometry.image_length),
        "grid",
        geometry.grid,
        f"the cache holds {sizes} text and image positions; build a new one for this grid",
    )
    dtype = cache["text_k"].dtype
    query, key, value = (x.swapaxes(1, 2) for x in (q, k, v))
    key, value = key.astype(dtype), value.astype(dtype)
    index = jnp.asarray(position, jnp.int32)
    if geometry.image_is_target:
        source, target = "text", "image"
        if _column_major(geometry):
            rows, columns = geometry.grid
            index = jax.lax.rem(index, columns) * rows + jax.lax.div(index, columns)
        slices = geometry.pattern.earlier(index, geometry.grid)
    else:
        source, target = "image", "text"
        m = geometry.text_length
        slices = [(jnp.int32(0), m, jnp.arange(m) < index)]
    keys, values = (
        [_read(cache[f"{target}_{kind}"], start, length) for start, length, _ in slices]
        for kind in "kv"
    )
    earlier = (
        jnp.concatenate(keys, axis=2),
        jnp.concatenate(values, axis=2),
        jnp.concatenate([mask for *_, mask in slices]),
    )
    sources: list[Source] = [
        (cache[f"{source}_k"], cache[f"{source}_v"], None),
        (key, value, None),
        earlier,
    ]
    out = softmax_over(query.astype(dtype), sources)
    written = dict(cache)
    for name, x in ((f"{target}_k", key), (f"{target}_v", value)):
        # x itself unless the output is NaN: the write depends on the reads (see above)
        x = jnp.where(jnp.isnan(out), out.astype(dtype), x)
        written[name] = _placed(jax.lax.dynamic_update_slice(cache[name], x, (0, 0, index, 0)))
    return out.swapaxes(1, 2).astype(q.dtype), written


def _read(x: Array, start: Int[Array, ""], length: int) -> Array:
    return x if length == x.shape[2] else jax.lax.dynamic_slice_in_dim(x, start, length, axis=2)


def _column_major(geometry: Geometry) -> bool:
    """Whether the image lies in the cache column by column: only a target is read in parts."""
    return geometry.image_is_target and geometry.pattern.column_major


def _placed(x: Array) -> Array:
    return constrain(x, "batch", "heads", None, "head_dim")
