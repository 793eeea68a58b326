"""Which positions attend to which: the row, column, convolution and dense patterns, and the rule
that deals them to layers.

Separate because the masks are the model's definition: training (nn/attention.py), decoding
(nn/decode_attention.py) and the tests all read them from here, and neither knows a pattern by name.
In memory a sequence is always [text ; image in raster order]; a direction only chooses masks. An
image index is r * columns + c.

text_to_image: text sees all text; image sees all text and the causal set of its pattern (DALL-E,
PAPERS 2.2). image_to_text: image sees the two-sided set of its pattern and no text; text sees
all of the image and the text up to itself."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from vilg.config import lookup, require

Grid = tuple[int, int]
Read = tuple[
    Any, int, Any
]  # first index in the cache, length (static), which of the `length` keys are visible (bool)
Directions = (
    str | tuple[tuple[str, int], ...]
)  # one for all rows, or those of every group of rows: ((direction, rows), ...)
DIRECTIONS = ("text_to_image", "image_to_text")


@runtime_checkable
class Pattern(Protocol):
    """A pattern over image positions. Index arguments are raster indices, numpy or traced, that
    broadcast.
    """

    column_major: bool  # blocks and the decoding cache lie column by column

    def sees(self, direction: str, query: Any, key: Any, grid: Grid) -> Any:
        """Whether the image query sees the image key."""
        ...

    def block(self, grid: Grid) -> int:
        """Positions in a block: the unit of block-wise attention, in the pattern's own order."""
        ...

    def earlier(self, index: Any, grid: Grid) -> list[Read]:
        """Contiguous, disjoint slices of the cache: what the text_to_image query at cache index
        `index` sees, itself left out.
        """
        ...


@dataclass(frozen=True)
class Dense:
    """Every image key (text_to_image: up to the query)."""

    column_major = False

    def sees(self, direction: str, query: Any, key: Any, grid: Grid) -> Any:
        return (key <= query) if direction == "text_to_image" else (key >= 0) & (query >= 0)

    def block(self, grid: Grid) -> int:
        return grid[0] * grid[1]

    def earlier(self, index: Any, grid: Grid) -> list[Read]:
        return [_aligned(index, grid[0] * grid[1])]


@dataclass(frozen=True)
class Row:
    """The query's row. Causal with mode "raster_window": the previous `columns` positions in raster
    order and itself, as DALL-E has it.
    """

    mode: str = "raster_window"
    column_major = False

    def __post_init__(self):
        require(
            self.mode in ("raster_window", "same_row"),
            "row_mode",
            self.mode,
            "must be 'raster_window' or 'same_row'",
        )

    def sees(self, direction: str, query: Any, key: Any, grid: Grid) -> Any:
        if direction == "text_to_image" and self.mode == "raster_window":
            return (key <= query) & (key >= query - grid[1])
        same = query // grid[1] == key // grid[1]
        return same & (key <= query) if direction == "text_to_image" else same

    def block(self, grid: Grid) -> int:
        return grid[1]

    def earlier(self, index: Any, grid: Grid) -> list[Read]:
        if self.mode == "raster_window":
            return [_behind(index, 1, grid[1], grid)]
        return [_aligned(index, grid[1])]


@dataclass(frozen=True)
class Column:
    """The query's column (text_to_image: itself and the rows above)."""

    column_major = True

    def sees(self, direction: str, query: Any, key: Any, grid: Grid) -> Any:
        same = query % grid[1] == key % grid[1]
        return same & (key <= query) if direction == "text_to_image" else same

    def block(self, grid: Grid) -> int:
        return grid[0]

    def earlier(self, index: Any, grid: Grid) -> list[Read]:
        return [_aligned(index, grid[0])]


@dataclass(frozen=True)
class Convolution:
    """A size x size window. Causal: its earlier half as flat offsets, which wrap at the raster's
    edge; two-sided: no wrap.
    """

    size: int = 11
    column_major = False

    def __post_init__(self):
        whole = isinstance(self.size, int) and not isinstance(self.size, bool)
        require(
            whole and self.size % 2 == 1 and self.size > 0,
            "convolution",
            self.size,
            "the window must be odd and positive, such as 11",
        )

    def sees(self, direction: str, query: Any, key: Any, grid: Grid) -> Any:
        half = self.size // 2
        if direction == "text_to_image":
            distance = query - key
            seen = distance < 0  # broadcasts; then emptied
            for nearest, farthest in self._distances(grid):
                seen = seen | ((distance >= nearest) & (distance <= farthest))
            return seen & (distance >= 0)
        rows, columns = query // grid[1] - key // grid[1], query % grid[1] - key % grid[1]
        return (abs(rows) <= half) & (abs(columns) <= half)

    def block(self, grid: Grid) -> int:
        return grid[1]

    def earlier(self, index: Any, grid: Grid) -> list[Read]:
        return [
            _behind(index, max(nearest, 1), farthest, grid)
            for nearest, farthest in self._distances(grid)
            if farthest >= 1
        ]

    def _distances(self, grid: Grid) -> list[tuple[int, int]]:
        """Disjoint intervals [nearest, farthest] of query - key >= 0; on a narrow grid the rows of
        the window touch and merge.
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


PATTERNS = {"dense": Dense, "row": Row, "column": Column, "convolution": Convolution}


@dataclass(frozen=True)
class PatternOptions:
    """What an experiment may choose about the patterns; errors: UserError for an unknown row mode
    or an even window.
    """

    row_mode: str = "raster_window"
    convolution: int = 11

    def __post_init__(self):
        for name in PATTERNS:
            make_pattern(name, self)


def make_pattern(name: str, options: PatternOptions | None = None) -> Pattern:
    """The pattern of that name; errors: UserError for an unknown name."""
    options = options or PatternOptions()
    given = {"row": {"mode": options.row_mode}, "convolution": {"size": options.convolution}}
    return lookup(PATTERNS, name, "pattern")(**given.get(name, {}))


def _ernie_vilg(layers: int) -> tuple[str, ...]:
    """Column where layer % 4 == 1 (from 0), else row; the last layer convolution (PAPERS 2.1)."""
    return (*("column" if layer % 4 == 1 else "row" for layer in range(layers - 1)), "convolution")


SCHEDULES = {"ernie_vilg": _ernie_vilg, "dense": lambda layers: ("dense",) * layers}


def schedule(kind: str | tuple[str, ...] | list[str], layers: int) -> tuple[str, ...]:
    """A pattern name for each layer, from a rule's name or from an explicit list of `layers`
    names.
    """
    require(
        isinstance(layers, int) and layers > 0, "layers", layers, "must be a positive whole number"
    )
    if isinstance(kind, str):
        return lookup(SCHEDULES, kind, "patterns")(layers)
    require(
        len(kind) == layers, "patterns", kind, f"needs one pattern for each of the {layers} layers"
    )
    for i, name in enumerate(kind):
        lookup(PATTERNS, name, f"patterns[{i}]")
    return tuple(kind)


def check_direction(direction: str) -> None:
    """Errors: UserError for an unknown direction."""
    lookup(dict.fromkeys(DIRECTIONS), direction, "direction")


def check_grid(grid: Grid) -> None:
    """Errors: UserError unless the grid is two positive whole numbers."""
    whole = len(grid) == 2 and all(
        isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in grid
    )
    require(whole, "grid", grid, "must be (rows, columns), two positive whole numbers")


def visible(pattern: Pattern, direction: str, text_length: int, grid: Grid) -> np.ndarray:
    """Bool [m+n, m+n], query by key, over [text ; image]: the whole mask of one layer."""
    check_direction(direction)
    check_grid(grid)
    text, image = np.arange(text_length), np.arange(grid[0] * grid[1])
    image_image = pattern.sees(direction, image[:, None], image[None, :], grid)
    text_text = (
        np.ones((text_length, text_length), bool)
        if direction == "text_to_image"
        else text[None, :] <= text[:, None]
    )
    image_text = np.full((image.size, text_length), direction == "text_to_image")
    return np.block([[text_text, ~image_text.T], [image_text, image_image]])


def _aligned(index: Any, length: int) -> Read:
    """The block of `length` keys that holds `index`, those before it visible."""
    start = jax.lax.div(index, length) * length
    return start, length, start + jnp.arange(length) < index


def _behind(index: Any, nearest: int, farthest: int, grid: Grid) -> Read:
    """The keys `nearest` to `farthest` positions before `index`; at the start of the image the
    slice is clamped and masked.
    """
    start = jnp.maximum(index - farthest, 0)
    distance = index - (start + jnp.arange(farthest - nearest + 1))
    return start, farthest - nearest + 1, (distance >= nearest) & (distance <= farthest)
