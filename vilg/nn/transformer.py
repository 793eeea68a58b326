"""The trunk: pre-LN transformer blocks with a pattern a layer, scanned over the repeating unit of
the pattern schedule.

The schedule row, column, row, row, ... repeats with period 4 up to its convolution tail, so the
layers are grouped into `repeats` x `unit` (scanned: compiled once) plus a `tail` (unrolled).
Patterns stay static, hence no branch at run time and a cache of its own shape for each. A Block can
be run over the whole stream (training), over the source segment (which fills its cache) or over one
position (decoding); `Trunk.run` applies any of the three to all layers."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vilg.config import lookup
from vilg.nn import attention, decode_attention
from vilg.nn.patterns import Directions, make_pattern
from vilg.nn.splash import reorder
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain, is_split

# What the backward pass may keep; the rest is computed again. Named, so that an experiment file can
# say it. A position and layer of width d costs 2d bytes in bfloat16 for the residual stream, 6d for
# "qkv", 2d for "attention_out" (4d as TPUs pad heads of 64), 2d for "middle" (the stream after
# attention), 2d for "stream" (a layer's output: of a scanned unit of layers the last one's is kept
# anyway, and without this name the others' second feed-forward products are computed again) and 8d
# for "mlp_in".
REMAT: dict[str, Callable | None] = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "qkv": jax.checkpoint_policies.save_only_these_names("qkv"),
    "qkv_attention_mlp": jax.checkpoint_policies.save_only_these_names(
        "qkv", "attention_out", "mlp_in"
    ),
    "qkv_attention": jax.checkpoint_policies.save_only_these_names(
        "qkv", "attention_out", "middle"
    ),
    "qkv_attention_mlp_stream": jax.checkpoint_policies.save_only_these_names(
        "qkv", "attention_out", "mlp_in", "stream"
    ),
    "qkv_attention_middle_mlp": jax.checkpoint_policies.save_only_these_names(
        "qkv", "attention_out", "middle", "mlp_in"
    ),
    "all_named": jax.checkpoint_policies.save_only_these_names(
        "qkv", "attention_out", "middle", "mlp_in", "stream"
    ),
}


@dataclasses.dataclass(frozen=True)
class TrunkShape:
    """The static sizes of a trunk. `patterns` has an entry a layer; `grid` is rows x columns of
    image tokens.
    """

    width: int
    heads: int
    mlp_width: int
    patterns: tuple[str, ...]
    text_length: int
    grid: tuple[int, int]
    options: attention.PatternOptions
    implementation: str
    qk_norm: bool
    rotary_base: float  # 0: no rotary positions
    remat: str
    scan: bool
    dtype: Any

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.width // self.heads


def by_direction(
    attend: Callable[..., Array], directions: Directions, *arrays: Float[Array, "b ..."]
) -> Float[Array, "b ..."]:
    """`attend(direction, *rows)` on the rows of each direction. Several directions share the rest
    of a layer: rows come in groups, in each of them so many of the first direction, then of the
    next, so that a device's part of the batch holds whole groups."""
    if isinstance(directions, str):
        return attend(directions, *arrays)
    group, first, out = sum(rows for _, rows in directions), 0, []
    arrays = tuple(x.reshape(-1, group, *x.shape[1:]) for x in arrays)
    for direction, rows in directions:
        found = attend(
            direction, *(x[:, first : first + rows].reshape(-1, *x.shape[2:]) for x in arrays)
        )
        out.append(found.reshape(-1, rows, *found.shape[1:]))
        first += rows
    return jnp.concatenate(out, 1).reshape(-1, *out[0].shape[2:])


def split_schedule(patterns: tuple[str, ...]) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    """(unit, repeats, tail) with unit * repeats + tail == patterns, choosing the fewest blocks to
    compile.
    """
    best = (patterns, 1, ())
    for period in range(1, len(patterns)):
        repeats = 1
        while patterns[repeats * period : (repeats + 1) * period] == patterns[:period]:
            repeats += 1
        tail = patterns[repeats * period :]
        if repeats > 1 and period + len(tail) < len(best[0]) + len(best[2]):
            best = (patterns[:period], repeats, tail)
    return best


class Block(nn.Module):
    """Pre-LN attention and GELU feed-forward with residuals; parameters f32, compute in
    `shape.dtype`.
    """

    shape: TrunkShape
    pattern: str

    def setup(self) -> None:
        s = self.shape
        init = nn.initializers.normal(s.width**-0.5)
        residual = nn.initializers.normal((2 * len(s.patterns)) ** -0.5 * s.width**-0.5)
        residual_mlp = nn.initializers.normal((2 * len(s.patterns)) ** -0.5 * s.mlp_width**-0.5)
        heads = (s.heads, s.head_size)
        self.norm_attention = layer_norm()
        self.norm_mlp = layer_norm()
        self.qkv = self.param(
            "qkv",
            named(init, "embed", None, "heads", "head_dim"),
            (s.width, 3, *heads),
            jnp.float32,
        )
        self.out = self.param(
            "out", named(residual, "heads", "head_dim", "embed"), (*heads, s.width), jnp.float32
        )
        self.mlp_in = self.param(
            "mlp_in", named(init, "embed", "mlp"), (s.width, s.mlp_width), jnp.float32
        )
        self.mlp_in_bias = self.param(
            "mlp_in_bias", named(nn.initializers.zeros, "mlp"), (s.mlp_width,), jnp.float32
        )
        self.mlp_out = self.param(
            "mlp_out", named(residual_mlp, "mlp", "embed"), (s.mlp_width, s.width), jnp.float32
        )
        self.mlp_out_bias = self.param(
            "mlp_out_bias", named(nn.initializers.zeros, "embed"), (s.width,), jnp.float32
        )
        if s.qk_norm:
            ones = nn.initializers.ones
            self.q_scale = self.param(
                "q_scale", named(ones, "head_dim"), (s.head_size,), jnp.float32
            )
            self.k_scale = self.param(
                "k_scale", named(ones, "head_dim"), (s.head_size,), jnp.float32
            )

    def _qkv(
        self, x: Float[Array, "b l d"], places: Float[Array, "l 2"]
    ) -> tuple[Array, Array, Array]:
        s = self.shape
        y = self.norm_attention(x).astype(s.dtype)
        # z after b and l: in front, XLA multiplies the transposed weight, three times slower for
        # the one position of a decoding step
        qkv = jnp.einsum("bld,dzhk->blzhk", y, self.qkv.astype(s.dtype))
        qkv = checkpoint_name(constrain(qkv, "batch", "length", None, "heads", "head_dim"), "qkv")
        q, k, v = (qkv[:, :, z] for z in range(3))
        if s.qk_norm:
            q, k = rms(q, self.q_scale), rms(k, self.k_scale)
        if s.rotary_base:
            q, k = rotate(q, places, s.rotary_base), rotate(k, places, s.rotary_base)
        return q, k, v

    def _qkv_ordered(
        self, x: Float[Array, "b l d"], places: Float[Array, "l 2"], whole: int
    ) -> list[Float[Array, "b h k w"]]:
        """Scaled queries, keys and values of `whole` >= l positions, which come last: the products
        write them so by themselves. The scale is applied to what is smaller, the weights (or after
        a norm its own), and so once for both passes."""
        s, more, scale = self.shape, whole - x.shape[1], self.shape.head_size**-0.5
        y = jnp.pad(self.norm_attention(x).astype(s.dtype), ((0, 0), (0, more), (0, 0)))
        places = jnp.pad(places, ((0, more), (0, 0)))
        weights = (
            self.qkv.reshape(s.width, 3, s.width)
            * jnp.array([1.0 if s.qk_norm else scale, 1, 1])[:, None]
        )
        weights = weights.astype(s.dtype)
        parts = [
            jnp.einsum("bld,de->bel", y, weights[:, z]).reshape(
                x.shape[0], s.heads, s.head_size, whole
            )
            for z in range(3)
        ]
        parts = [
            checkpoint_name(constrain(part, "batch", "heads", "head_dim", "length"), "qkv")
            for part in parts
        ]
        if s.qk_norm or s.rotary_base:
            q, k = (jnp.moveaxis(part, 3, 1) for part in parts[:2])
            if s.qk_norm:
                q, k = rms(q, self.q_scale * scale), rms(k, self.k_scale)
            if s.rotary_base:
                q, k = rotate(q, places, s.rotary_base), rotate(k, places, s.rotary_base)
            parts[:2] = jnp.moveaxis(q, 1, 3), jnp.moveaxis(k, 1, 3)
        return parts

    def _finish(
        self, x: Float[Array, "b l d"], attended: Float[Array, "b _ _ k"], order: str = "blhk"
    ) -> Float[Array, "b l d"]:
        s = self.shape
        x = x + jnp.einsum(f"{order},hkd->bld", attended, self.out.astype(s.dtype))[:, : x.shape[1]]
        x = checkpoint_name(x, "middle")
        y = self.norm_mlp(x).astype(s.dtype)
        y = jnp.einsum("bld,df->blf", y, self.mlp_in.astype(s.dtype)) + self.mlp_in_bias.astype(
            s.dtype
        )
        y = checkpoint_name(constrain(y, "batch", "length", "mlp"), "mlp_in")
        y = jnp.einsum(
            "blf,fd->bld", nn.gelu(y), self.mlp_out.astype(s.dtype)
        ) + self.mlp_out_bias.astype(s.dtype)
        return checkpoint_name(constrain(x + y, "batch", "length", "embed"), "stream")

    def _geometry(self, direction: str) -> dict[str, Any]:
        s = self.shape
        return {
            "pattern": self.pattern,
            "direction": direction,
            "text_length": s.text_length,
            "grid": s.grid,
            "options": s.options,
        }

    def full(self, x: Float[Array, "b l d"], directions: Directions) -> Float[Array, "b l d"]:
        """The whole stream (text, then image): training and scoring."""
        s, places, ordered = (
            self.shape,
            places_of(self.shape),
            attention.ordered(self.shape.implementation),
        )
        if ordered is None:
            return self._finish(
                x, by_direction(self._attend, directions, *self._qkv(x, jnp.asarray(places)))
            )
        # All but attention treats positions alike, so a column layer is turned around as a whole,
        # where it is narrowest.
        pattern = make_pattern(self.pattern, s.options)
        turn = (
            functools.partial(reorder, text_length=s.text_length, grid=s.grid)
            if pattern.column_major
            else None
        )
        x = turn(x) if turn else x
        places = turn(jnp.asarray(places)[None])[0] if turn else jnp.asarray(places)
        whole = (
            x.shape[1] if is_split("length", x.shape[1]) else ordered.whole(x.shape[1])
        )  # padding what is split would move it
        parts = self._qkv_ordered(x, places, whole)
        attended = constrain(
            ordered.attend(*parts, pattern, directions, s.text_length, s.grid),
            "batch",
            "heads",
            "length",
            "head_dim",
        )
        x = self._finish(x, attended, "bhlk")
        return constrain(turn(x, back=True), "batch", "length", "embed") if turn else x

    def _attend(self, direction: str, q: Array, k: Array, v: Array) -> Array:
        return attention.attend(
            q, k, v, implementation=self.shape.implementation, **self._geometry(direction)
        )

    def source(self, x: Float[Array, "b l d"], direction: str) -> tuple[Float[Array, "b l d"], Any]:
        """The source segment alone, and a cache that holds its keys and values."""
        places, m = places_of(self.shape), self.shape.text_length
        q, k, v = self._qkv(
            x, jnp.asarray(places[:m] if direction == "text_to_image" else places[m:])
        )
        geometry = self._geometry(direction)
        cache = decode_attention.init_cache(
            x.shape[0], self.shape.heads, self.shape.head_size, dtype=self.shape.dtype, **geometry
        )
        cache = decode_attention.prefill(cache, k, v, **geometry)
        return self._finish(x, attention.attend_source(q, k, v, **geometry)), cache

    def step(
        self, x: Float[Array, "b 1 d"], cache: Any, position: Array, direction: str
    ) -> tuple[Float[Array, "b 1 d"], Any]:
        """One target position: reads the keys that the pattern sees, and adds its own to the
        cache.
        """
        first = self.shape.text_length if direction == "text_to_image" else 0
        q, k, v = self._qkv(x, jnp.asarray(places_of(self.shape))[first + position][None])
        attended, cache = decode_attention.decode_step(
            cache, q, k, v, position, **self._geometry(direction)
        )
        return self._finish(x, attended), cache


class Unit(nn.Module):
    """A few consecutive blocks, the body of the scan."""

    shape: TrunkShape
    patterns: tuple[str, ...]

    def setup(self) -> None:
        self.blocks = [Block(self.shape, pattern) for pattern in self.patterns]

    def run(self, x: Array, caches: Any, call: Callable) -> tuple[Array, Any]:
        """`call(block, x, cache) -> (x, cache)` on each block in turn."""
        out = []
        for i, block in enumerate(self.blocks):
            x, cache = call(block, x, None if caches is None else caches[i])
            out.append(cache)
        return x, out


class Trunk(nn.Module):
    """All blocks and the last norm."""

    shape: TrunkShape

    def setup(self) -> None:
        s = self.shape
        unit, self.repeats, tail = split_schedule(s.patterns) if s.scan else ((), 0, s.patterns)
        self.units = Unit(s, unit) if unit else None
        self.tail = Unit(s, tail) if tail else None
        self.norm = layer_norm()

    def run(
        self, x: Float[Array, "b l d"], call: Callable, caches: Any = None
    ) -> tuple[Float[Array, "b l d"], Any]:
        """Applies `call(block, x, cache) -> (x, cache)` to every layer; returns normed states and
        the caches (None where none).
        """
        policy = lookup(REMAT, self.shape.remat, "generator.remat")

        def body(unit: Unit, x: Array, cache: Any) -> tuple[Array, Any]:
            return unit.run(x, cache, call)

        if self.shape.remat != "none":
            body = nn.remat(body, policy=policy, prevent_cse=not self.shape.scan)
        scanned, rest = (None, None) if caches is None else caches
        out_scanned, out_rest = None, None
        if self.units is not None:
            scan = nn.scan(
                body,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=0 if scanned is not None else nn.broadcast,  # type: ignore[arg-type]
                length=self.repeats,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            x, out_scanned = scan(self.units, x, scanned)
        if self.tail is not None:
            x, out_rest = body(self.tail, x, rest)
        return self.norm(x).astype(self.shape.dtype), (out_scanned, out_rest)

    def full(self, x: Float[Array, "b l d"], directions: Directions) -> Float[Array, "b l d"]:
        """States of the whole stream."""
        return self.run(x, lambda block, y, _: (block.full(y, directions), None))[0]

    def source(self, x: Float[Array, "b l d"], direction: str) -> tuple[Float[Array, "b l d"], Any]:
        """States of the source segment, and every layer's cache."""
        return self.run(x, lambda block, y, _: block.source(y, direction))

    def step(
        self, x: Float[Array, "b 1 d"], caches: Any, position: Array, direction: str
    ) -> tuple[Float[Array, "b 1 d"], Any]:
        """State of one target position, and the caches with it."""
        return self.run(x, functools.partial(_step, position=position, direction=direction), caches)


def unrolled(params: Any) -> Any:
    """A scanned trunk's parameters as the same trunk has them with scan=False: slices of the
    stacked layers, then the tail.

    Decoding wants it: a scan that carries caches copies every layer's whole cache at every token
    (measured: 3,650 against 123 CPU microseconds for a row layer at lite width), unrolled layers
    update theirs in place."""
    blocks = []
    if "units" in params:
        units = params["units"]
        repeats = jax.tree.leaves(units)[0].shape[0]
        for repeat in range(repeats):
            blocks += [
                jax.tree.map(lambda x, r=repeat: x[r], units[f"blocks_{i}"])
                for i in range(len(units))
            ]
    tail = params.get("tail", {})
    blocks += [tail[f"blocks_{i}"] for i in range(len(tail))]
    return {
        "tail": {f"blocks_{i}": block for i, block in enumerate(blocks)},
        "norm": params["norm"],
    }


def _step(
    block: Block, x: Array, cache: Any, *, position: Array, direction: str
) -> tuple[Array, Any]:
    return block.step(x, cache, position, direction)


def layer_norm() -> nn.LayerNorm:
    """LayerNorm over the last axis in f32, with named parameters."""
    return nn.LayerNorm(
        dtype=jnp.float32,
        scale_init=named(nn.initializers.ones, "embed"),
        bias_init=named(nn.initializers.zeros, "embed"),
    )


def places_of(shape: TrunkShape) -> Float[np.ndarray, "l 2"]:
    """The (row, column) of every position of the stream: text position j stands at (j, j), as in
    multimodal rotary embeddings.
    """
    text = np.repeat(np.arange(shape.text_length)[:, None], 2, 1)
    image = np.stack(np.divmod(np.arange(shape.grid[0] * shape.grid[1]), shape.grid[1]), 1)
    return np.concatenate([text, image]).astype(np.float32)


def rotate(
    x: Float[Array, "b l h k"], places: Float[Array, "l 2"], base: float
) -> Float[Array, "b l h k"]:
    """Rotary positions (arXiv 2104.09864): half of a head's pairs turn with the row, half with the
    column, so that scores depend on differences of places within a modality."""
    quarter = x.shape[-1] // 4
    frequencies = base ** (-jnp.arange(quarter) / quarter)
    angles = (places[:, :, None] * frequencies).reshape(places.shape[0], 1, 2 * quarter)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)


def rms(x: Float[Array, "... k"], scale: Float[Array, " k"]) -> Float[Array, "... k"]:
    """x over its root mean square along the last axis, times a learned scale."""
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-6) * scale).astype(x.dtype)
