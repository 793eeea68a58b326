"""Embeddings of text and image tokens (PAPERS 2.3).

Text ids have 1-D positions, and a learned vector for the padding at every text position. Image
codes have row and column positions. A vector for each (direction, segment) is added, since source
and target exchange roles.

A window (0 by default; the paper has none) adds to each state the tokens just before its own, each
times a learned vector of its offset: "red" is then known at "circle" before any attention. Without
it small models take thousands of steps to learn which word belongs to which.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Float, Int

from vilg.nn.geometry import DIRECTIONS
from vilg.nn.patterns import Grid
from vilg.parallel.axes import named
from vilg.types import PAD

Offsets = list[tuple[int, int]]  # (rows, columns) from a place to the place that is meant


class TokenEmbed(nn.Module):
    """The embeddings of both modalities, each position with its own 1-D or 2-D place.

    `scale` is the initial standard deviation. `text_window`: how many ids before its own each text
    state holds too. `image_window`: each image state holds too the codes of the square of this
    radius around it that come before it in raster order.
    """

    width: int
    text_vocabulary: int
    text_length: int
    image_vocabulary: int
    grid: Grid
    scale: float
    text_window: int = 0
    image_window: int = 0

    def setup(self) -> None:
        init, d = nn.initializers.normal(self.scale), self.width
        marks = nn.initializers.normal(1.0)
        rows, columns = self.grid

        def weight(
            name: str, shape: tuple[int, ...], *axes: str | None, init: Initializer = init
        ) -> Array:
            return self.param(name, named(init, *axes), shape, jnp.float32)

        self.text_table = weight("text_table", (self.text_vocabulary, d), "vocab", "embed")
        self.text_position = weight("text_position", (self.text_length, d), "length", "embed")
        self.text_pad = weight("text_pad", (self.text_length, d), "length", "embed")
        if self.text_window:
            shape = (self.text_window, d)
            self.text_before = weight("text_before", shape, None, "embed", init=marks)
        if self.image_window:
            shape = (len(square_before(self.image_window)), d)
            self.image_before = weight("image_before", shape, None, "embed", init=marks)
        self.image_table = weight("image_table", (self.image_vocabulary, d), "vocab", "embed")
        self.image_row = weight("image_row", (rows, d), "rows", "embed")
        self.image_column = weight("image_column", (columns, d), "columns", "embed")
        self.role = weight("role", (2, 2, d), None, None, "embed")

    def text(
        self, ids: Int[Array, "b m"], direction: str, position: Int[Array, ""] | None = None
    ) -> Float[Array, "b l d"]:
        """The states of all text ids; with `position`, the state there alone, which does not depend
        on later ids.
        """
        positions = jnp.arange(self.text_length) if position is None else position[None]
        x = rows_at(self.text_table, ids, position)
        if self.text_window:
            offsets = [(0, -back) for back in range(1, self.text_window + 1)]
            x = x + before(
                self.text_table, ids, (1, self.text_length), offsets, self.text_before, position
            )
        padding = (ids if position is None else ids[:, positions])[..., None] == PAD
        x = jnp.where(padding, self.text_pad[positions], x)
        return x + self.text_position[positions] + self.role[DIRECTIONS.index(direction), 0]

    def image(
        self, codes: Int[Array, "b n"], direction: str, position: Int[Array, ""] | None = None
    ) -> Float[Array, "b l d"]:
        """The states of all codes, in raster order; with `position`, the state there alone, which
        does not depend on later codes.
        """
        columns = self.grid[1]
        index = jnp.arange(codes.shape[1]) if position is None else position[None]
        place = self.image_row[index // columns] + self.image_column[index % columns]
        x = rows_at(self.image_table, codes, position)
        if self.image_window:
            offsets = square_before(self.image_window)
            x = x + before(self.image_table, codes, self.grid, offsets, self.image_before, position)
        return x + place + self.role[DIRECTIONS.index(direction), 1]


def square_before(radius: int) -> Offsets:
    """The offsets of a square of 2 * radius + 1 places a side that come before its centre in raster
    order.
    """
    reach = range(-radius, radius + 1)
    return [(y, x) for y in reach for x in reach if (y, x) < (0, 0)]


def rows_at(
    table: Float[Array, "v d"], ids: Int[Array, "b n"], position: Int[Array, ""] | None
) -> Float[Array, "b l d"]:
    """The table's rows of all ids, or of the ids at `position`."""
    return table[ids if position is None else ids[:, position[None]]]


def before(
    table: Float[Array, "v d"],
    ids: Int[Array, "b n"],
    grid: Grid,
    offsets: Offsets,
    marks: Float[Array, "k d"],
    position: Int[Array, ""] | None,
) -> Float[Array, "b l d"]:
    """The sum over offsets of an offset's mark times the row of the id at that offset, where that
    place is on the grid: for every place, or for `position` alone.
    """
    (rows, columns), total = grid, jnp.zeros(())
    if position is None:
        # shifts of one array: with a gather for each offset the gradient would be as many scatters
        reach = max(max(-y, abs(x)) for y, x in offsets)
        x = jnp.pad(
            table[ids].reshape(-1, rows, columns, table.shape[1]),
            ((0, 0), (reach, 0), (reach, reach), (0, 0)),
        )
        for (dy, dx), mark in zip(offsets, marks, strict=True):
            top, left = reach + dy, reach + dx
            total = total + mark * x[:, top : top + rows, left : left + columns]
        return total.reshape(ids.shape[0], rows * columns, -1)
    for (dy, dx), mark in zip(offsets, marks, strict=True):
        row, column = position // columns + dy, position % columns + dx
        inside = (row >= 0) & (column >= 0) & (column < columns)
        there = jnp.clip(row * columns + column, 0, rows * columns - 1)
        total = total + jnp.where(inside, mark * table[ids[:, there[None]]], 0.0)
    return total
