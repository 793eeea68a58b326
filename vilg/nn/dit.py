"""The transformer denoiser (DiT, arXiv 2212.09748): patches of the code grid, modulated by time and
text, that attend to the text states.

Each block's attention has the text's keys and values beside its own (PAPERS 1.4 does so in a
U-Net); time and the pooled text shift, scale and gate every block (adaLN). It is not in ERNIE-ViLG
2.0: a second entry of the table of denoisers.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.config import lookup, require
from vilg.nn.config_checks import (
    check_denoiser_attention,
    check_divides_grid,
    check_transformer,
)
from vilg.nn.cross_attention import ATTEND, AttentionOptions, JointAttention
from vilg.nn.dense import DTYPES, Dtype, FeedForward, dense, repeated
from vilg.nn.norms import plain_norm
from vilg.nn.patterns import Grid
from vilg.nn.rotary import grid_places
from vilg.nn.time_embed import TimeEmbed
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain
from vilg.types import Params

PATH = "generator.denoiser"


@dataclasses.dataclass(frozen=True)
class DiTConfig:
    """A transformer over patches of the code grid, as a section of an experiment."""

    width: int = 128  # width of a position's state
    layers: int = 4  # transformer blocks
    heads: int = 4  # attention heads
    mlp_ratio: float = 4.0  # width of a block's feed-forward layer, in widths of a state
    patch: int = 1  # rows and columns of codes in a token
    # every block starts as the identity (adaLN-Zero, as published); False: its gates start at 1, as
    # in an ordinary transformer
    zero_gates: bool = True
    rotary_base: float = 0.0  # rotary positions beside the learned ones; 0: none
    qk_norm: bool = False  # RMS norm of queries and keys, each head for itself
    embed_scale: float = 0.02  # standard deviation of the embeddings' initial values
    query_chunk: int = 0  # queries taken at a time, to save memory on large grids; 0: all
    # auto, chunked, dot_product or splash (vilg/nn/cross_attention.py)
    attention_implementation: str = "auto"
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
        check_denoiser_attention(self.attention_implementation, self.query_chunk)

    @property
    def factor(self) -> int:
        """The grid's rows and columns must be multiples of this number."""
        return self.patch

    @property
    def hidden(self) -> int:
        """The width of the feed-forward layer's hidden units."""
        return int(self.width * self.mlp_ratio)

    def module(self, outputs: int, grid: Grid, attend_mode: str) -> nn.Module:
        """The network (DenoiserConfig.module). Errors: UserError for an unknown mode or a grid that
        the patch does not divide.
        """
        lookup(ATTEND, attend_mode, "generator.knowledge.attention_mode")
        check_divides_grid(self.factor, grid, PATH, f"patch={self.patch}")
        return DiT(self, outputs, grid, attend_mode)

    def attention_options(self, attend_mode: str) -> AttentionOptions:
        """The options that every block's attention has."""
        return AttentionOptions(
            attend_mode=attend_mode,
            qk_norm=self.qk_norm,
            rotary_base=self.rotary_base,
            query_chunk=self.query_chunk,
            implementation=self.attention_implementation,
            dtype=DTYPES[self.dtype],
        )

    def unrolled(self, params: Params) -> Params:
        """The parameters themselves: layers are stacked whether or not they are scanned."""
        return params


class DiT(nn.Module):
    """The network of a DiTConfig; the result is float32. Learned positions are those of `grid`, and
    are interpolated for any other grid.

    Errors: UserError for a grid that the patch does not divide.
    """

    config: DiTConfig
    outputs: int
    grid: Grid
    attend_mode: str

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b y x c"],
        time: Float[Array, " b"],
        context: Float[Array, "b m w"],
        pooled: Float[Array, "b w"],
        attend: Float[Array, "b m"] | None = None,
    ) -> Float[Array, "b y x o"]:
        c, (b, rows, columns) = self.config, x.shape[:3]
        p, d, dtype = c.patch, c.width, DTYPES[c.dtype]
        require(
            rows % p == 0 and columns % p == 0,
            "grid",
            (rows, columns),
            f"must be multiples of {PATH}.patch={p}",
        )
        y, w = rows // p, columns // p
        patches = to_patches(x, p).astype(dtype)
        embed = dense(d, (None, "embed"), "patches", nn.initializers.lecun_normal(), dtype)
        tokens = (embed(patches) + self._positions(y, w)).astype(dtype)
        tokens = constrain(tokens, "batch", "length", "embed")
        condition = TimeEmbed(d, d, name="time")(time, pooled)
        stack = repeated(DiTBlock, c.layers, c.scan, c.remat, f"{PATH}.remat", arguments=4)
        blocks = stack(c, c.attention_options(self.attend_mode), name="blocks")
        places = jnp.asarray(grid_places((y, w)))
        tokens, _ = blocks(tokens, condition, context.astype(dtype), attend, places)
        shift, scale = Modulation(2, name="last_modulation")(condition)
        unembed = dense(p * p * self.outputs, ("embed", None), "out", nn.initializers.zeros_init())
        out = unembed(plain_norm(tokens) * (1 + scale) + shift)
        out = out.reshape(b, y, w, p, p, self.outputs).transpose(0, 1, 3, 2, 4, 5)
        return out.reshape(b, rows, columns, self.outputs)

    def _positions(self, rows: int, columns: int) -> Float[Array, "n d"]:
        """A learned vector for each row plus one for each column of patches."""
        c = self.config
        init, d = nn.initializers.normal(c.embed_scale), c.width
        own_rows, own_columns = (side // c.patch for side in self.grid)
        row = self.param("row", named(init, "rows", "embed"), (own_rows, d), jnp.float32)
        column = self.param(
            "column", named(init, "columns", "embed"), (own_columns, d), jnp.float32
        )
        row, column = (
            table if table.shape[0] == n else jax.image.resize(table, (n, d), "linear")
            for table, n in ((row, rows), (column, columns))
        )
        return (row[:, None] + column).reshape(rows * columns, d)


class DiTBlock(nn.Module):
    """Attention and feed-forward, each normed, scaled and shifted before and gated after."""

    config: DiTConfig
    options: AttentionOptions

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        condition: Float[Array, "b d"],
        context: Float[Array, "b m w"],
        attend: Float[Array, "b m"] | None,
        places: Float[Array, "n 2"],
    ) -> tuple[Float[Array, "b n d"], None]:
        c, dtype = self.config, DTYPES[self.config.dtype]
        depth = (2 * c.layers) ** -0.5  # of what is added to the stream (GPT-2)
        start = 0.0 if c.zero_gates else 1.0  # of the gates, to which the learned ones are added
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = Modulation(6, name="modulation")(
            condition
        )
        attention = JointAttention(
            c.heads, c.width // c.heads, depth * c.width**-0.5, self.options, name="attention"
        )
        feed_forward = FeedForward(c.hidden, depth * c.hidden**-0.5, dtype, name="feed_forward")
        y = attention(plain_norm(x) * (1 + scale) + shift, context, attend, places)
        x = x + ((start + gate) * y).astype(dtype)
        y = feed_forward(plain_norm(x) * (1 + mlp_scale) + mlp_shift)
        x = x + ((start + mlp_gate) * y).astype(dtype)
        return constrain(x, "batch", "length", "embed"), None


class Modulation(nn.Module):
    """`kinds` linear functions [b, 1, d] of SiLU(condition), float32; zero as initialised."""

    kinds: int

    @nn.compact
    def __call__(self, condition: Float[Array, "b d"]) -> list[Float[Array, "b 1 d"]]:
        d, zeros = condition.shape[-1], nn.initializers.zeros_init()
        kernel = self.param(
            "kernel", named(zeros, "embed", None, "mlp"), (d, self.kinds, d), jnp.float32
        )
        bias = self.param("bias", named(zeros, None, "embed"), (self.kinds, d), jnp.float32)
        vectors = jnp.einsum("bd,dzf->bzf", nn.silu(condition.astype(jnp.float32)), kernel) + bias
        return [vectors[:, z, None] for z in range(self.kinds)]


def to_patches(x: Float[Array, "b y x c"], patch: int) -> Float[Array, "b n k"]:
    """Squares of `patch` x `patch` positions as tokens in raster order, each of the square's rows,
    columns and channels, in this order.
    """
    b, rows, columns, c = x.shape
    y, w = rows // patch, columns // patch
    x = x.reshape(b, y, patch, w, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, y * w, patch * patch * c)
