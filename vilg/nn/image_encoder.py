"""The image encoder of a dual encoder: a vision transformer (ViT, arXiv 2010.11929) over patches of
the codec's latents.

Separate from the denoisers, which see a time and a text and give an array as large as their input:
this network sees an image alone and gives one vector of it. Its blocks are the text encoder's.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.config import require
from vilg.nn.config_checks import check_divides_grid, check_transformer
from vilg.nn.cross_attention import AttentionOptions
from vilg.nn.dense import DTYPES, Dtype, dense, repeated
from vilg.nn.dit import to_patches
from vilg.nn.norms import layer_norm
from vilg.nn.patterns import Grid
from vilg.nn.rotary import grid_places
from vilg.nn.text_encoder import EncoderBlock
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain

PATH = "generator.image"


@dataclasses.dataclass(frozen=True)
class ImageEncoderConfig:
    """The image encoder as a section of an experiment (ViT-B/16: 12 layers of 768, 12 heads,
    patches of 16 pixels).
    """

    width: int = 128  # width of a position's state
    layers: int = 3  # transformer blocks
    heads: int = 4  # attention heads
    mlp_ratio: float = 4.0  # width of a block's feed-forward layer, in widths of a state
    patch: int = 1  # rows and columns of codes in a patch
    rotary_base: float = 0.0  # rotary positions beside the learned ones; 0: none
    qk_norm: bool = False  # RMS norm of queries and keys, each head for itself
    embed_scale: float = 0.02  # standard deviation of the embeddings' initial values
    dtype: Dtype = "float32"  # of activations; parameters and the optimizer's moments are float32
    # what a block keeps for its backward pass: a name in REMAT (vilg/nn/remat.py)
    remat: str = "none"
    # blocks as one scanned loop: quick to compile; unrolled ones run faster on a CPU
    scan: bool = True

    def __post_init__(self) -> None:
        check_transformer(
            PATH, self.width, self.layers, self.heads, self.mlp_ratio, self.rotary_base, self.remat
        )
        require(self.patch > 0, f"{PATH}.patch", self.patch, "must be at least 1")

    def module(self, grid: Grid) -> "ImageEncoder":
        """The network: latents on this grid [b, y, x, c] -> [b, width]. Errors: UserError for a
        grid that the patch does not divide.
        """
        check_divides_grid(self.patch, grid, PATH, f"patch={self.patch}")
        return ImageEncoder(self, grid)


class ImageEncoder(nn.Module):
    """The network of an ImageEncoderConfig: latents of one grid -> [b, d] in float32, the mean of
    the last states of all patches.
    """

    config: ImageEncoderConfig
    grid: Grid

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b d"]:
        c, d, dtype = self.config, self.config.width, DTYPES[self.config.dtype]
        rows, columns = (side // c.patch for side in self.grid)
        embed = dense(d, (None, "embed"), "patches", nn.initializers.lecun_normal(), dtype)
        tokens = embed(to_patches(x, c.patch).astype(dtype))
        init = nn.initializers.normal(c.embed_scale)
        row = self.param("row", named(init, "rows", "embed"), (rows, d), jnp.float32)
        column = self.param("column", named(init, "columns", "embed"), (columns, d), jnp.float32)
        position = (row[:, None] + column).reshape(rows * columns, d)
        tokens = constrain((tokens + position).astype(dtype), "batch", "length", "embed")
        options = AttentionOptions(qk_norm=c.qk_norm, rotary_base=c.rotary_base, dtype=dtype)
        stack = repeated(EncoderBlock, c.layers, c.scan, c.remat, f"{PATH}.remat", arguments=1)
        blocks = stack(c.heads, int(d * c.mlp_ratio), c.layers, options, name="blocks")
        tokens, _ = blocks(tokens, jnp.asarray(grid_places((rows, columns))))
        return jnp.mean(layer_norm()(tokens).astype(jnp.float32), 1)
