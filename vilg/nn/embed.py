"""Embeddings of text and image tokens (SPEC 2.3): text ids with 1-D positions and a learned pad vector for every text position;
image codes with row and column positions; and a vector for each (direction, segment), since source and target swap roles."""

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

    def setup(self) -> None:
        init = nn.initializers.normal(self.scale)
        rows, columns = self.grid
        d = self.width
        self.text_table = self.param("text_table", named(init, "vocab", "embed"), (self.text_vocabulary, d), jnp.float32)
        self.text_position = self.param("text_position", named(init, "length", "embed"), (self.text_length, d), jnp.float32)
        self.text_pad = self.param("text_pad", named(init, "length", "embed"), (self.text_length, d), jnp.float32)
        self.image_table = self.param("image_table", named(init, "vocab", "embed"), (self.image_vocabulary, d), jnp.float32)
        self.image_row = self.param("image_row", named(init, "rows", "embed"), (rows, d), jnp.float32)
        self.image_column = self.param("image_column", named(init, "columns", "embed"), (columns, d), jnp.float32)
        self.role = self.param("role", named(init, None, None, "embed"), (2, 2, d), jnp.float32)

    def text(self, ids: Int[Array, "b m"], direction: str, position: Array | None = None) -> Float[Array, "b m d"]:
        """Text states; with `position`, ids has one column that stands at that text position."""
        positions = jnp.arange(self.text_length) if position is None else position[None]
        x = jnp.where((ids == PAD)[..., None], self.text_pad[positions], self.text_table[ids])
        return x + self.text_position[positions] + self.role[DIRECTIONS.index(direction), 0]

    def image(self, codes: Int[Array, "b n"], direction: str, position: Array | None = None) -> Float[Array, "b n d"]:
        """Image states of codes in raster order; with `position`, codes has one column that stands at that raster index."""
        rows, columns = self.grid
        index = jnp.arange(rows * columns) if position is None else position[None]
        place = self.image_row[index // columns] + self.image_column[index % columns]
        return self.image_table[codes] + place + self.role[DIRECTIONS.index(direction), 1]
