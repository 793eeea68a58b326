"""Embeddings of text and image tokens (PAPERS 2.3): text ids with 1-D positions and a learned pad
vector for every text position; image codes with row and column positions; and a vector for each
(direction, segment), since source and target swap roles.

A window (not in the paper; 0 by default) adds the tokens just before, each times a learned vector
of its place: "red" is then known at "circle" before any attention. Small models otherwise take
thousands of steps to learn which word belongs to which."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vilg.parallel.axes import named
from vilg.types import PAD

DIRECTIONS = ("text_to_image", "image_to_text")


class TokenEmbed(nn.Module):
    """Tables for both modalities, each position of the stream having its own 1-D or 2-D place."""

    width: int
    text_vocabulary: int
    text_length: int
    image_vocabulary: int
    grid: tuple[int, int]
    scale: float
    text_window: int = 0  # how many ids before it each text state also holds
    image_window: int = (
        0  # of which radius the square is whose codes before it each image state also holds
    )

    def setup(self) -> None:
        init = nn.initializers.normal(self.scale)
        rows, columns = self.grid
        d = self.width
        self.text_table = self.param(
            "text_table", named(init, "vocab", "embed"), (self.text_vocabulary, d), jnp.float32
        )
        self.text_position = self.param(
            "text_position", named(init, "length", "embed"), (self.text_length, d), jnp.float32
        )
        self.text_pad = self.param(
            "text_pad", named(init, "length", "embed"), (self.text_length, d), jnp.float32
        )
        marks = named(nn.initializers.normal(1.0), None, "embed")
        if self.text_window:
            self.text_before = self.param("text_before", marks, (self.text_window, d), jnp.float32)
        if self.image_window:
            self.image_before = self.param(
                "image_before", marks, (len(square_before(self.image_window)), d), jnp.float32
            )
        self.image_table = self.param(
            "image_table", named(init, "vocab", "embed"), (self.image_vocabulary, d), jnp.float32
        )
        self.image_row = self.param(
            "image_row", named(init, "rows", "embed"), (rows, d), jnp.float32
        )
        self.image_column = self.param(
            "image_column", named(init, "columns", "embed"), (columns, d), jnp.float32
        )
        self.role = self.param("role", named(init, None, None, "embed"), (2, 2, d), jnp.float32)

    def text(
        self, ids: Int[Array, "b m"], direction: str, position: Array | None = None
    ) -> Float[Array, "b l d"]:
        """States of all text ids; with `position`, the state there alone (ids after it are not
        read).
        """
        positions = jnp.arange(self.text_length) if position is None else position[None]
        x = at(self.text_table, ids, position)
        if self.text_window:
            offsets = [(0, -back) for back in range(1, self.text_window + 1)]
            x = x + before(
                self.text_table, ids, (1, self.text_length), offsets, self.text_before, position
            )
        x = jnp.where(
            (ids if position is None else ids[:, positions])[..., None] == PAD,
            self.text_pad[positions],
            x,
        )
        return x + self.text_position[positions] + self.role[DIRECTIONS.index(direction), 0]

    def image(
        self, codes: Int[Array, "b n"], direction: str, position: Array | None = None
    ) -> Float[Array, "b l d"]:
        """States of all codes, in raster order; with `position`, the state there alone (codes after
        it are not read).
        """
        columns = self.grid[1]
        index = jnp.arange(codes.shape[1]) if position is None else position[None]
        place = self.image_row[index // columns] + self.image_column[index % columns]
        x = at(self.image_table, codes, position)
        if self.image_window:
            x = x + before(
                self.image_table,
                codes,
                self.grid,
                square_before(self.image_window),
                self.image_before,
                position,
            )
        return x + place + self.role[DIRECTIONS.index(direction), 1]


def square_before(radius: int) -> list[tuple[int, int]]:
    """(row, column) offsets of the places of a square of 2 radius + 1 that come before its centre
    in raster order.
    """
    reach = range(-radius, radius + 1)
    return [(y, x) for y in reach for x in reach if (y, x) < (0, 0)]


def at(
    table: Float[Array, "v d"], ids: Int[Array, "b n"], position: Array | None
) -> Float[Array, "b l d"]:
    """Rows of all ids, or of the one at `position`."""
    return table[ids if position is None else ids[:, position[None]]]


def before(
    table: Float[Array, "v d"],
    ids: Int[Array, "b n"],
    grid: tuple[int, int],
    offsets: list[tuple[int, int]],
    marks: Float[Array, "k d"],
    position: Array | None,
) -> Float[Array, "b l d"]:
    """Sum over offsets of mark * the row of the id so far away, where that is on the grid: for
    every place, or for `position` alone.
    """
    (rows, columns), total = grid, jnp.zeros(())
    if (
        position is None
    ):  # shifts of one array: the gradient of a gather a neighbour would be a scatter each
        reach = max(max(-y, abs(x)) for y, x in offsets)
        x = jnp.pad(
            table[ids].reshape(-1, rows, columns, table.shape[1]),
            ((0, 0), (reach, 0), (reach, reach), (0, 0)),
        )
        for (dy, dx), mark in zip(offsets, marks, strict=True):
            total = (
                total
                + mark * x[:, reach + dy : reach + dy + rows, reach + dx : reach + dx + columns]
            )
        return total.reshape(ids.shape[0], rows * columns, -1)
    for (dy, dx), mark in zip(offsets, marks, strict=True):
        row, column = position // columns + dy, position % columns + dx
        inside = (row >= 0) & (column >= 0) & (column < columns)
        there = jnp.clip(row * columns + column, 0, rows * columns - 1)
        total = total + jnp.where(inside, mark * table[ids[:, there[None]]], 0.0)
    return total
