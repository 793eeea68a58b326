"""The text encoder that a denoiser is trained with (PAPERS 1.3): a bidirectional pre-LN transformer
over text ids.

Padding: a position after the text holds a learned vector of its own (as in GLIDE and DALL-E)
instead of the pad id's row, and is attended to like any other. The window, which the paper does not
have (0), is that of vilg/nn/embed.py.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vilg.config import require
from vilg.nn.config_checks import check_transformer
from vilg.nn.cross_attention import AttentionOptions, JointAttention
from vilg.nn.dense import DTYPES, Dtype, FeedForward, repeated
from vilg.nn.embed import before
from vilg.nn.norms import layer_norm
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain
from vilg.types import PAD

PATH = "generator.text"


@dataclasses.dataclass(frozen=True)
class TextEncoderConfig:
    """The text encoder as a section of an experiment (paper: 24 layers of 2048, 32 heads)."""

    width: int = 128  # width of a position's state
    layers: int = 2  # transformer blocks
    heads: int = 4  # attention heads
    mlp_ratio: float = 4.0  # width of a block's feed-forward layer, in widths of a state
    window: int = 0  # ids before it that each state holds too (vilg/nn/embed.py; the paper: 0)
    embed_scale: float = 0.02  # standard deviation of the embeddings' initial values
    qk_norm: bool = False  # RMS norm of queries and keys, each head for itself
    dtype: Dtype = "float32"  # of activations; parameters and the optimizer's moments are float32
    # what a block keeps for its backward pass: a name in REMAT (vilg/nn/remat.py)
    remat: str = "none"
    # blocks as one scanned loop: quick to compile; unrolled ones run faster on a CPU
    scan: bool = True

    def __post_init__(self) -> None:
        check_transformer(
            PATH, self.width, self.layers, self.heads, self.mlp_ratio, 0.0, self.remat
        )

    def module(self, vocabulary: int, length: int) -> "TextEncoder":
        """The network: ids [b, length] -> (states [b, length, width], pooled [b, width])."""
        remedy = f"must be below data.text.length={length}"
        require(self.window < length, f"{PATH}.window", self.window, remedy)
        return TextEncoder(self, vocabulary, length)


class TextEncoder(nn.Module):
    """The network of a TextEncoderConfig: ids [b, m] -> (states [b, m, d] in the config's dtype,
    pooled [b, d] in float32: the mean of the states that are not padding).
    """

    config: TextEncoderConfig
    vocabulary: int
    length: int

    @nn.compact
    def __call__(self, ids: Int[Array, "b m"]) -> tuple[Float[Array, "b m d"], Float[Array, "b d"]]:
        c, d, dtype = self.config, self.config.width, DTYPES[self.config.dtype]
        init = nn.initializers.normal(c.embed_scale)
        shape = (self.length, d)
        table = self.param(
            "table", named(init, "vocab", "embed"), (self.vocabulary, d), jnp.float32
        )
        position = self.param("position", named(init, "length", "embed"), shape, jnp.float32)
        pad = self.param("pad", named(init, "length", "embed"), shape, jnp.float32)
        x = table[ids]
        if c.window:
            marks = named(nn.initializers.normal(1.0), None, "embed")
            marks = self.param("before", marks, (c.window, d), jnp.float32)
            offsets = [(0, -back) for back in range(1, c.window + 1)]
            x = x + before(table, ids, (1, self.length), offsets, marks, None)
        text = (ids != PAD)[..., None]
        x = (jnp.where(text, x, pad) + position).astype(dtype)
        x = constrain(x, "batch", "length", "embed")
        options = AttentionOptions(qk_norm=c.qk_norm, dtype=dtype)
        stack = repeated(EncoderBlock, c.layers, c.scan, c.remat, f"{PATH}.remat", arguments=0)
        x, _ = stack(c.heads, int(d * c.mlp_ratio), c.layers, options, name="blocks")(x)
        states = layer_norm()(x)
        pooled = jnp.where(text, states, 0.0).sum(1) / jnp.maximum(text.sum(1), 1)
        return states.astype(dtype), pooled


class EncoderBlock(nn.Module):
    """Attention and feed-forward, each after a LayerNorm and added to its input. `layers` is the
    depth of the stack, which scales the initial outputs; `places` are for rotary positions.
    """

    heads: int
    hidden: int
    layers: int
    options: AttentionOptions

    @nn.compact
    def __call__(
        self, x: Float[Array, "b m d"], places: Float[Array, "m 2"] | None = None
    ) -> tuple[Float[Array, "b m d"], None]:
        width, depth = x.shape[-1], (2 * self.layers) ** -0.5
        attention = JointAttention(
            self.heads,
            width // self.heads,
            depth * width**-0.5,
            self.options,
            name="attention",
        )
        x = x + attention(layer_norm()(x), places=places)
        feed_forward = FeedForward(
            self.hidden, depth * self.hidden**-0.5, self.options.dtype, name="feed_forward"
        )
        x = x + feed_forward(layer_norm()(x))
        return constrain(x, "batch", "length", "embed"), None
