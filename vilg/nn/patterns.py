"""Patterns of sparse attention: which image positions attend to which.

A pattern is the model's definition, and its masks are written down here alone: training
(nn/attention.py), decoding (nn/decode_attention.py) and the tests all derive theirs from it, and
none of them knows a pattern by its name. An image position is a raster index, row * columns +
column. What text sees, and what sees text, is the same for every pattern: nn/geometry.py.

In the direction text_to_image a pattern is causal: a query sees keys up to itself only. In the
direction image_to_text it is two-sided.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from vilg.config import lookup, require

Grid = tuple[int, int]  # rows, columns
Positions = np.ndarray | Array  # raster indices of image positions, or what is computed of them
Slice = tuple[Array, int, Bool[Array, " s"]]
"""A contiguous part of a decoding cache: the first index, the length s (static), and which of these
keys the query sees."""


@runtime_checkable
class Pattern(Protocol):
    """A pattern over image positions, a frozen dataclass."""

    column_major: bool  # whether blocks and the decoding cache lie column by column

    def sees(self, direction: str, query: Positions, key: Positions, grid: Grid) -> Positions:
        """Whether the image query sees the image key: raster indices that broadcast -> booleans."""
        ...

    def block(self, grid: Grid) -> int:
        """Positions in a block: the unit of block-wise attention, in the pattern's own order."""
        ...

    def earlier(self, index: Int[Array, ""], grid: Grid) -> list[Slice]:
        """Contiguous, disjoint slices of the decoding cache that hold what the query at cache index
        `index` sees in the direction text_to_image, the query's own position left out.
        """
        ...


@dataclass(frozen=True)
class Dense:
    """An image query sees every image key; causal: every key up to itself."""

    column_major = False

    def sees(self, direction: str, query: Positions, key: Positions, grid: Grid) -> Positions:
        return (key <= query) if direction == "text_to_image" else (key >= 0) & (query >= 0)

    def block(self, grid: Grid) -> int:
        return grid[0] * grid[1]

    def earlier(self, index: Int[Array, ""], grid: Grid) -> list[Slice]:
        return [_aligned(index, grid[0] * grid[1])]


@dataclass(frozen=True)
class Row:
    """An image query sees its own row. Causal, in the mode "raster_window": itself and as many
    positions before it in raster order as a row has, as in DALL-E; in the mode "same_row": its own
    row up to itself.
    """

    mode: str = "raster_window"
    column_major = False

    def __post_init__(self) -> None:
        require(
            self.mode in ("raster_window", "same_row"),
            "row_mode",
            self.mode,
            "must be 'raster_window' or 'same_row'",
        )

    def sees(self, direction: str, query: Positions, key: Positions, grid: Grid) -> Positions:
        if direction == "text_to_image" and self.mode == "raster_window":
            return (key <= query) & (key >= query - grid[1])
        same = query // grid[1] == key // grid[1]
        return same & (key <= query) if direction == "text_to_image" else same

    def block(self, grid: Grid) -> int:
        return grid[1]

    def earlier(self, index: Int[Array, ""], grid: Grid) -> list[Slice]:
        if self.mode == "raster_window":
            return [_behind(index, 1, grid[1])]
        return [_aligned(index, grid[1])]


@dataclass(frozen=True)
class Column:
    """An image query sees its own column; causal: itself and the positions above it."""

    column_major = True

    def sees(self, direction: str, query: Positions, key: Positions, grid: Grid) -> Positions:
        same = query % grid[1] == key % grid[1]
        return same & (key <= query) if direction == "text_to_image" else same

    def block(self, grid: Grid) -> int:
        return grid[0]

    def earlier(self, index: Int[Array, ""], grid: Grid) -> list[Slice]:
        return [_aligned(index, grid[0])]


@dataclass(frozen=True)
class Convolution:
    """An image query sees a window of size x size positions around itself, cut at the image's edge.

    Causal: the half of the window that comes before the query, as offsets in raster order, which
    run on from one row's end to the next row's start.
    """

    size: int = 11
    column_major = False

    def __post_init__(self) -> None:
        integer = isinstance(self.size, int) and not isinstance(self.size, bool)
        require(
            integer and self.size % 2 == 1 and self.size > 0,
            "convolution",
            self.size,
            "the window must be odd and positive, such as 11",
        )

    def sees(self, direction: str, query: Positions, key: Positions, grid: Grid) -> Positions:
        half = self.size // 2
        if direction == "text_to_image":
            distance = query - key
            seen = distance < 0  # of the broadcast shape; the last line drops these again
            for nearest, farthest in self._distances(grid):
                seen = seen | ((distance >= nearest) & (distance <= farthest))
            return seen & (distance >= 0)
        rows, columns = query // grid[1] - key // grid[1], query % grid[1] - key % grid[1]
        return (abs(rows) <= half) & (abs(columns) <= half)

    def block(self, grid: Grid) -> int:
        return grid[1]

    def earlier(self, index: Int[Array, ""], grid: Grid) -> list[Slice]:
        return [
            _behind(index, max(nearest, 1), farthest)
            for nearest, farthest in self._distances(grid)
            if farthest >= 1
        ]

    def _distances(self, grid: Grid) -> list[tuple[int, int]]:
        """The window as disjoint intervals [nearest, farthest] of query - key >= 0, nearest first.
        On a narrow grid the rows of the window touch and become one interval.
        """
        half = self.size // 2
        merged: list[tuple[int, int]] = [(0, half)]
        for row in range(1, half + 1):
            nearest, farthest = row * grid[1] - half, row * grid[1] + half
            if nearest <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(farthest, merged[-1][1]))
            else:
                merged.append((nearest, farthest))
        last = grid[0] * grid[1] - 1
        return [(nearest, min(farthest, last)) for nearest, farthest in merged if nearest <= last]


PATTERNS: dict[str, type[Dense | Row | Column | Convolution]] = {
    "dense": Dense,
    "row": Row,
    "column": Column,
    "convolution": Convolution,
}


@dataclass(frozen=True)
class PatternOptions:
    """An experiment's choices about the patterns: Row.mode and Convolution.size.

    Errors: UserError for an unknown row mode or an even window, whichever patterns are used.
    """

    row_mode: str = "raster_window"
    convolution: int = 11

    def __post_init__(self) -> None:
        for name in PATTERNS:
            make_pattern(name, self)


def make_pattern(name: str, options: PatternOptions | None = None) -> Pattern:
    """The pattern of this name. Errors: UserError for an unknown name."""
    options = options or PatternOptions()
    fields = {"row": {"mode": options.row_mode}, "convolution": {"size": options.convolution}}
    return lookup(PATTERNS, name, "pattern")(**fields.get(name, {}))


def _aligned(index: Int[Array, ""], length: int) -> Slice:
    """The aligned block of `length` keys that holds `index`; the keys before `index` are seen."""
    start = jax.lax.div(index, length) * length
    return start, length, start + jnp.arange(length) < index


def _behind(index: Int[Array, ""], nearest: int, farthest: int) -> Slice:
    """The keys `nearest` to `farthest` positions before `index`. Near the start of the image the
    slice is moved to begin at 0, and the keys that it then has too many are masked.
    """
    start = jnp.maximum(index - farthest, 0)
    distance = index - (start + jnp.arange(farthest - nearest + 1))
    return start, farthest - nearest + 1, (distance >= nearest) & (distance <= farthest)
