"""The trunk: all blocks of a transformer and the last norm.

Layers repeat their patterns: ERNIE-ViLG's are row, column, row, row, ... with a period of 4 up to
the convolution layer at the end. The trunk therefore groups its layers into `repeats` times a unit
of consecutive blocks, which is scanned and so compiled once, and a tail, which is unrolled. The
patterns stay static: no branch at run time, and every layer's cache has a shape of its own.
`Trunk.run` applies any of a block's entries (transformer.py) to all layers.
"""

from collections.abc import Callable, Hashable
from typing import TypeVar

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int

from vilg.nn.decode_attention import Cache
from vilg.nn.geometry import Directions
from vilg.nn.norms import layer_norm
from vilg.nn.patterns import Pattern
from vilg.nn.positions_last import block_class
from vilg.nn.remat import rematerialised
from vilg.nn.transformer import Block, TrunkConfig
from vilg.types import Params

UnitCaches = list[Cache | None] | None
"""The cache of each block of a unit (None for a block without), or None where there is no unit."""
Caches = tuple[UnitCaches, UnitCaches]
"""The caches of the scanned units, each with a leading axis of repeats, and of the tail."""
Call = Callable[[Block, Array, Cache | None], tuple[Array, Cache | None]]
"""A block's entry: (block, x, cache) -> (x, cache)."""
Layer = TypeVar("Layer", bound=Hashable)


def split_layers(
    layers: tuple[Layer, ...],
) -> tuple[tuple[Layer, ...], int, tuple[Layer, ...]]:
    """(unit, repeats, tail) with unit * repeats + tail == layers, such that unit and tail together
    have the fewest blocks to compile.
    """
    best = (layers, 1, ())
    for period in range(1, len(layers)):
        repeats = 1
        while layers[repeats * period : (repeats + 1) * period] == layers[:period]:
            repeats += 1
        tail = layers[repeats * period :]
        if repeats > 1 and period + len(tail) < len(best[0]) + len(best[2]):
            best = (layers[:period], repeats, tail)
    return best


class Unit(nn.Module):
    """A few consecutive blocks: the body of the scan, or the tail."""

    config: TrunkConfig
    patterns: tuple[Pattern, ...]

    def setup(self) -> None:
        block = block_class(self.config.implementation)
        self.blocks = [block(self.config, pattern) for pattern in self.patterns]

    def run(self, x: Array, caches: UnitCaches, call: Call) -> tuple[Array, UnitCaches]:
        """`call` on each block in turn."""
        out = []
        for i, block in enumerate(self.blocks):
            x, cache = call(block, x, None if caches is None else caches[i])
            out.append(cache)
        return x, out


class Trunk(nn.Module):
    """All blocks and the last norm."""

    config: TrunkConfig

    def setup(self) -> None:
        c = self.config
        unit, self.repeats, tail = split_layers(c.patterns) if c.scan else ((), 0, c.patterns)
        self.units = Unit(c, unit) if unit else None
        self.tail = Unit(c, tail) if tail else None
        self.norm = layer_norm()

    def full(self, x: Float[Array, "b l d"], directions: Directions) -> Float[Array, "b l d"]:
        """The states of the whole stream."""
        return self.run(x, lambda block, y, _: (block.full(y, directions), None))[0]

    def source(
        self, x: Float[Array, "b l d"], direction: str
    ) -> tuple[Float[Array, "b l d"], Caches]:
        """The states of the source segment, and every layer's cache."""
        return self.run(x, lambda block, y, _: block.source(y, direction))

    def step(
        self, x: Float[Array, "b 1 d"], caches: Caches, position: Int[Array, ""], direction: str
    ) -> tuple[Float[Array, "b 1 d"], Caches]:
        """The state of one target position, and the caches with that position in them."""

        def call(block: Block, x: Array, cache: Cache | None) -> tuple[Array, Cache]:
            assert cache is not None, "`source` gives every layer a cache"
            return block.step(x, cache, position, direction)

        return self.run(x, call, caches)

    def run(
        self, x: Float[Array, "b l d"], call: Call, caches: Caches | None = None
    ) -> tuple[Float[Array, "b l d"], Caches]:
        """`call` on every layer in turn: the normed states, and the caches."""
        c = self.config

        def body(unit: Unit, x: Array, caches: UnitCaches) -> tuple[Array, UnitCaches]:
            return unit.run(x, caches, call)

        body = rematerialised(body, c.remat, "generator.remat", prevent_cse=not c.scan)
        unit_caches, tail_caches = (None, None) if caches is None else caches
        new_unit_caches, new_tail_caches = None, None
        if self.units is not None:
            scan = nn.scan(
                body,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=0 if unit_caches is not None else nn.broadcast,  # type: ignore[arg-type]
                length=self.repeats,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            x, new_unit_caches = scan(self.units, x, unit_caches)
        if self.tail is not None:
            x, new_tail_caches = body(self.tail, x, tail_caches)
        return self.norm(x).astype(c.dtype), (new_unit_caches, new_tail_caches)


def unrolled(params: Params) -> Params:
    """A scanned trunk's parameters as the same trunk has them with scan=False: slices of the
    stacked layers, then the tail.

    Decoding needs them so: a scan that carries caches copies every layer's whole cache at every
    token (measured for a row layer at lite width: 3,650 against 123 CPU microseconds), while
    unrolled layers update theirs in place.
    """
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
