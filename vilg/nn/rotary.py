"""Rotary positions (RoFormer, arXiv 2104.09864) in two dimensions: half of a head's pairs turn with
the row, half with the column.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vilg.nn.patterns import Grid


def rotate(
    x: Float[Array, "b l h k"], places: Float[Array, "l 2"], base: float
) -> Float[Array, "b l h k"]:
    """x turned by its places (row, column), so that scores depend on differences of places within a
    modality. `base` sets the frequencies: base**-0, ..., base**-((k/4 - 1) / (k/4)).
    """
    quarter = x.shape[-1] // 4
    frequencies = base ** (-jnp.arange(quarter) / quarter)
    angles = (places[:, :, None] * frequencies).reshape(places.shape[0], 1, 2 * quarter)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)


def grid_places(grid: Grid) -> Float[np.ndarray, "n 2"]:
    """The (row, column) of every position of a grid in raster order."""
    rows, columns = grid
    return np.stack(np.divmod(np.arange(rows * columns), columns), 1).astype(np.float32)


def stream_places(text_length: int, grid: Grid) -> Float[np.ndarray, "l 2"]:
    """The (row, column) of every position of the stream [text ; image]: text position j stands at
    (j, j), as in multimodal rotary embeddings.
    """
    text = np.repeat(np.arange(text_length)[:, None], 2, 1).astype(np.float32)
    return np.concatenate([text, grid_places(grid)])
