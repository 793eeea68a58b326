"""A pre-LN transformer block over the stream [text ; image], with a pattern of attention.

    x = x + attention(norm(x))
    x = x + mlp(norm(x))

A block has three entries: `full` over the whole stream (training and scoring), `source` over the
source segment, which fills the block's cache, and `step` over one position (decoding). trunk.py
stacks blocks; positions_last.py is the same block for TPUs.
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from vilg.nn.attention import attend, attend_source
from vilg.nn.decode_attention import Cache, decode_step, init_cache, prefill
from vilg.nn.geometry import Directions, Geometry
from vilg.nn.norms import layer_norm, rms_norm
from vilg.nn.patterns import Grid, Pattern
from vilg.nn.rotary import rotate, stream_places
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain


@dataclasses.dataclass(frozen=True)
class TrunkConfig:
    """The sizes and options of a trunk. `patterns` has an entry for each layer."""

    width: int
    heads: int
    mlp_width: int
    patterns: tuple[Pattern, ...]
    text_length: int
    grid: Grid
    implementation: str  # of attention: attention.IMPLEMENTATIONS, or "auto"
    qk_norm: bool
    rotary_base: float  # 0: no rotary positions
    remat: str  # remat.REMAT
    scan: bool
    dtype: DTypeLike  # of the computation; the parameters are float32

    @property
    def head_size(self) -> int:
        """The width of one head."""
        return self.width // self.heads


class Block(nn.Module):
    """Attention and a GELU feed-forward layer, each normed before and added to the stream.

    The parameters are float32, the computation is in `config.dtype`.
    """

    config: TrunkConfig
    pattern: Pattern

    def setup(self) -> None:
        c = self.config
        d, f, heads = c.width, c.mlp_width, (c.heads, c.head_size)
        depth = (2 * len(c.patterns)) ** -0.5  # of what is added to the stream (GPT-2)
        normal, zeros, ones = nn.initializers.normal, nn.initializers.zeros, nn.initializers.ones

        def weight(
            name: str, init: Initializer, shape: tuple[int, ...], *axes: str | None
        ) -> Array:
            return self.param(name, named(init, *axes), shape, jnp.float32)

        self.norm_attention = layer_norm()
        self.norm_mlp = layer_norm()
        kernel = normal(d**-0.5)
        self.qkv = weight("qkv", kernel, (d, 3, *heads), "embed", None, "heads", "head_dim")
        self.out = weight("out", normal(depth * d**-0.5), (*heads, d), "heads", "head_dim", "embed")
        self.mlp_in = weight("mlp_in", kernel, (d, f), "embed", "mlp")
        self.mlp_in_bias = weight("mlp_in_bias", zeros, (f,), "mlp")
        self.mlp_out = weight("mlp_out", normal(depth * f**-0.5), (f, d), "mlp", "embed")
        self.mlp_out_bias = weight("mlp_out_bias", zeros, (d,), "embed")
        if c.qk_norm:
            self.q_scale = weight("q_scale", ones, (c.head_size,), "head_dim")
            self.k_scale = weight("k_scale", ones, (c.head_size,), "head_dim")

    def full(self, x: Float[Array, "b l d"], directions: Directions) -> Float[Array, "b l d"]:
        """The states of the whole stream."""
        c = self.config
        q, k, v = self.project(x, jnp.asarray(stream_places(c.text_length, c.grid)))
        attended = attend_by_direction(q, k, v, self.geometries(directions), c.implementation)
        return self.feed_forward(self.add_attended(x, attended))

    def source(
        self, x: Float[Array, "b l d"], direction: str
    ) -> tuple[Float[Array, "b l d"], Cache]:
        """The states of the source segment alone, and a cache that holds its keys and values."""
        c, geometry = self.config, self.geometry(direction)
        places, m = stream_places(c.text_length, c.grid), c.text_length
        segment = places[:m] if geometry.image_is_target else places[m:]
        q, k, v = self.project(x, jnp.asarray(segment))
        cache = init_cache(geometry, x.shape[0], c.heads, c.head_size, c.dtype)
        cache = prefill(cache, geometry, k, v)
        attended = attend_source(q, k, v, geometry)
        return self.feed_forward(self.add_attended(x, attended)), cache

    def step(
        self, x: Float[Array, "b 1 d"], cache: Cache, position: Int[Array, ""], direction: str
    ) -> tuple[Float[Array, "b 1 d"], Cache]:
        """The state of one target position, which sees the cached keys of its pattern, and the
        cache with that position's key and value in it.
        """
        c, geometry = self.config, self.geometry(direction)
        target = c.text_length if geometry.image_is_target else 0
        places = jnp.asarray(stream_places(c.text_length, c.grid))[target + position][None]
        q, k, v = self.project(x, places)
        attended, cache = decode_step(cache, geometry, q, k, v, position)
        return self.feed_forward(self.add_attended(x, attended)), cache

    def project(
        self, x: Float[Array, "b l d"], places: Float[Array, "l 2"]
    ) -> tuple[Float[Array, "b l h k"], Float[Array, "b l h k"], Float[Array, "b l h k"]]:
        """Queries, keys and values of the normed stream."""
        c = self.config
        y = self.norm_attention(x).astype(c.dtype)
        # z (query, key or value) stands after b and l: with z in front XLA multiplies the
        # transposed weight, three times slower for the one position of a decoding step
        qkv = jnp.einsum("bld,dzhk->blzhk", y, self.qkv.astype(c.dtype))
        qkv = checkpoint_name(constrain(qkv, "batch", "length", None, "heads", "head_dim"), "qkv")
        q, k, v = (qkv[:, :, z] for z in range(3))
        if c.qk_norm:
            q, k = rms_norm(q, self.q_scale), rms_norm(k, self.k_scale)
        if c.rotary_base:
            q, k = rotate(q, places, c.rotary_base), rotate(k, places, c.rotary_base)
        return q, k, v

    def add_attended(
        self, x: Float[Array, "b l d"], attended: Float[Array, "b l h k"]
    ) -> Float[Array, "b l d"]:
        """The stream plus the projected output of attention."""
        out = jnp.einsum("blhk,hkd->bld", attended, self.out.astype(self.config.dtype))
        return checkpoint_name(x + out, "middle")

    def feed_forward(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """The stream plus the feed-forward layer of the normed stream."""
        dtype = self.config.dtype
        y = self.norm_mlp(x).astype(dtype)
        y = jnp.einsum("bld,df->blf", y, self.mlp_in.astype(dtype)) + self.mlp_in_bias.astype(dtype)
        y = nn.gelu(checkpoint_name(constrain(y, "batch", "length", "mlp"), "mlp_in"))
        y = jnp.einsum("blf,fd->bld", y, self.mlp_out.astype(dtype))
        y = y + self.mlp_out_bias.astype(dtype)
        return checkpoint_name(constrain(x + y, "batch", "length", "embed"), "stream")

    def geometry(self, direction: str) -> Geometry:
        """This layer's geometry in one direction."""
        return Geometry(self.pattern, direction, self.config.text_length, self.config.grid)

    def geometries(self, directions: Directions) -> tuple[tuple[Geometry, int], ...]:
        """(geometry, rows) of each direction: a group of rows has so many rows of the first
        direction, then so many of the next.
        """
        parts = ((directions, 1),) if isinstance(directions, str) else directions
        return tuple((self.geometry(direction), rows) for direction, rows in parts)


def attend_by_direction(
    q: Float[Array, "b l h k"],
    k: Float[Array, "b l h k"],
    v: Float[Array, "b l h k"],
    parts: Sequence[tuple[Geometry, int]],
    implementation: str,
) -> Float[Array, "b l h k"]:
    """Attention of a batch whose rows have one direction or several, which share all else of a
    layer. Rows of several directions come in groups (Block.geometries), so that a device's part of
    the batch holds whole groups.
    """
    if len(parts) == 1:
        return attend(q, k, v, parts[0][0], implementation)
    group, start, out = sum(rows for _, rows in parts), 0, []
    arrays = tuple(x.reshape(-1, group, *x.shape[1:]) for x in (q, k, v))
    for geometry, rows in parts:
        own = (x[:, start : start + rows].reshape(-1, *x.shape[2:]) for x in arrays)
        attended = attend(*own, geometry, implementation)
        out.append(attended.reshape(-1, rows, *attended.shape[1:]))
        start += rows
    return jnp.concatenate(out, 1).reshape(-1, *out[0].shape[2:])
