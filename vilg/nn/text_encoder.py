"""The text encoder that a denoiser is trained with (PAPERS 1.3): a bidirectional pre-LN transformer
over text ids.

Padding: positions after the text hold a learned vector each (GLIDE, DALL-E) instead of the pad id's
row, and are attended to like any other; ids there beyond "it is PAD" change nothing. The window
(not in the paper; 0) is vilg/nn/embed.py's."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vilg.nn.cross_attention import JointAttention
from vilg.nn.dense import FeedForward, repeated
from vilg.nn.embed import before
from vilg.nn.transformer import layer_norm
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain
from vilg.types import PAD


class EncoderBlock(nn.Module):
    """Attention and feed-forward, each after a LayerNorm and added to its input. `places` are for
    rotary_base (image_encoder.py).
    """

    heads: int
    hidden: int
    layers: int
    qk_norm: bool
    dtype: Any
    rotary_base: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b m d"], places: Float[Array, "m 2"] | None = None
    ) -> tuple[Float[Array, "b m d"], None]:
        width, depth = x.shape[-1], (2 * self.layers) ** -0.5
        attention = JointAttention(
            self.heads,
            width // self.heads,
            depth * width**-0.5,
            qk_norm=self.qk_norm,
            rotary_base=self.rotary_base,
            dtype=self.dtype,
            name="attention",
        )
        x = x + attention(layer_norm()(x), places=places)
        x = x + FeedForward(
            self.hidden, depth * self.hidden**-0.5, self.dtype, name="feed_forward"
        )(layer_norm()(x))
        return constrain(x, "batch", "length", "embed"), None


class TextEncoder(nn.Module):
    """ids [b, m] -> (states [b, m, d] in `dtype`, pooled [b, d] in float32: the mean of the states
    that are not padding).
    """

    vocabulary: int
    length: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    window: int = 0
    embed_scale: float = 0.02
    qk_norm: bool = False
    remat: str = "none"
    scan: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, ids: Int[Array, "b m"]) -> tuple[Float[Array, "b m d"], Float[Array, "b d"]]:
        init, d = nn.initializers.normal(self.embed_scale), self.width
        table = self.param(
            "table", named(init, "vocab", "embed"), (self.vocabulary, d), jnp.float32
        )
        position = self.param(
            "position", named(init, "length", "embed"), (self.length, d), jnp.float32
        )
        pad = self.param("pad", named(init, "length", "embed"), (self.length, d), jnp.float32)
        x = table[ids]
        if self.window:
            marks = self.param(
                "before",
                named(nn.initializers.normal(1.0), None, "embed"),
                (self.window, d),
                jnp.float32,
            )
            x = x + before(
                table,
                ids,
                (1, self.length),
                [(0, -back) for back in range(1, self.window + 1)],
                marks,
                None,
            )
        text = (ids != PAD)[..., None]
        x = constrain(
            (jnp.where(text, x, pad) + position).astype(self.dtype), "batch", "length", "embed"
        )
        blocks = repeated(
            EncoderBlock, self.layers, self.scan, self.remat, "generator.text.remat", 0
        )
        x, _ = blocks(
            self.heads,
            int(d * self.mlp_ratio),
            self.layers,
            self.qk_norm,
            self.dtype,
            name="blocks",
        )(x)
        states = layer_norm()(x)
        pooled = jnp.where(text, states, 0.0).sum(1) / jnp.maximum(text.sum(1), 1)
        return states.astype(self.dtype), pooled
