"""The image encoder of a dual encoder: a vision transformer (ViT, arXiv 2010.11929) over patches of
the codec's latents.

Separate from the denoisers, which see a time and a text and give an array as large as their input:
this sees a picture alone and gives one vector of it. Its blocks are the text encoder's."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vilg.config import require
from vilg.nn.denoisers import Dtype, check_grid, check_transformer
from vilg.nn.dense import DTYPES, dense, repeated
from vilg.nn.text_encoder import EncoderBlock
from vilg.nn.transformer import layer_norm
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain


class ImageEncoder(nn.Module):
    """Latents [b, y, x, c] of one grid -> [b, d] in float32: the mean of the last states of all
    patches.
    """

    grid: tuple[int, int]
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    patch: int = 1
    rotary_base: float = 0.0
    qk_norm: bool = False
    embed_scale: float = 0.02
    remat: str = "none"
    scan: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b d"]:
        b, p, d, c = x.shape[0], self.patch, self.width, x.shape[-1]
        rows, columns = (side // p for side in self.grid)
        patches = (
            x.reshape(b, rows, p, columns, p, c)
            .transpose(0, 1, 3, 2, 4, 5)
            .reshape(b, rows * columns, p * p * c)
        )
        tokens = dense(d, (None, "embed"), "patches", nn.initializers.lecun_normal(), self.dtype)(
            patches.astype(self.dtype)
        )
        init = nn.initializers.normal(self.embed_scale)
        row = self.param("row", named(init, "rows", "embed"), (rows, d), jnp.float32)
        column = self.param("column", named(init, "columns", "embed"), (columns, d), jnp.float32)
        position = (row[:, None] + column).reshape(rows * columns, d)
        tokens = constrain((tokens + position).astype(self.dtype), "batch", "length", "embed")
        blocks = repeated(
            EncoderBlock, self.layers, self.scan, self.remat, "generator.image.remat", 1
        )
        places = jnp.asarray(
            np.stack(np.divmod(np.arange(rows * columns), columns), 1).astype(np.float32)
        )
        hidden = int(d * self.mlp_ratio)
        tokens, _ = blocks(
            self.heads,
            hidden,
            self.layers,
            self.qk_norm,
            self.dtype,
            self.rotary_base,
            name="blocks",
        )(tokens, places)
        return jnp.mean(layer_norm()(tokens).astype(jnp.float32), 1)


@dataclasses.dataclass(frozen=True)
class ImageEncoderConfig:
    """The image encoder as a section of an experiment (ViT-B/16: 12 layers of 768, 12 heads,
    patches of 16 pixels).
    """

    width: int = 128
    layers: int = 3
    heads: int = 4
    mlp_ratio: float = 4.0
    patch: int = 1  # rows and columns of codes in a patch
    rotary_base: float = 0.0  # rotary positions beside the learned ones; 0: none
    qk_norm: bool = False
    embed_scale: float = 0.02
    dtype: Dtype = "float32"
    remat: str = "none"
    scan: bool = True

    def __post_init__(self) -> None:
        path = "generator.image"
        check_transformer(
            path, self.width, self.layers, self.heads, self.mlp_ratio, self.rotary_base, self.remat
        )
        require(self.patch > 0, f"{path}.patch", self.patch, "must be at least 1")

    def module(self, grid: tuple[int, int]) -> ImageEncoder:
        """Latents on a grid -> [b, width]."""
        check_grid(grid, self.patch, "generator.image", f"patch={self.patch}")
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return ImageEncoder(grid, **{**fields, "dtype": DTYPES[self.dtype]})
