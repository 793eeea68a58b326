"""CLIP (Radford et al. 2021): a vision transformer and a causal text transformer whose results lie
in one space, in the form of Hugging Face's CLIPModel.

OpenAI's and OpenCLIP's ViT models have this form. Models whose text tower is a BERT (Chinese CLIP)
or whose image tower is a ResNet do not. The weights do not say which activation they were trained
with, how many heads there are and which id ends a text: config.json does. For inference only: no
axis names.
"""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "gelu": lambda x: nn.gelu(x, approximate=False),
}
LEGACY_END = 2  # config.json of OpenAI's models names this id although their end is the largest id


@dataclass(frozen=True)
class TowerConfig:
    """A stack of pre-LN transformer blocks; `activation` is a name of ACTIVATIONS, `epsilon` that
    of the norms.
    """

    layers: int
    heads: int
    hidden: int
    activation: str
    epsilon: float


@dataclass(frozen=True)
class VisionConfig:
    """The vision transformer: `side` is that of its images, `patch` that of a patch, in pixels."""

    side: int
    patch: int
    width: int
    tower: TowerConfig


@dataclass(frozen=True)
class TextConfig:
    """The text transformer: `length` is its longest text, `end` the end-of-text id."""

    vocabulary: int
    length: int
    width: int
    end: int
    tower: TowerConfig


class CLIP(nn.Module):
    """Both towers and their projections to `width` features. Results have length 1, so that their
    products are cosines.
    """

    vision: VisionConfig
    text: TextConfig
    width: int

    def setup(self) -> None:
        self.vision_model, self.text_model = Vision(self.vision), Text(self.text)
        self.visual_projection = nn.Dense(self.width, use_bias=False)
        self.text_projection = nn.Dense(self.width, use_bias=False)

    def images(self, images: Float[Array, "b H W 3"]) -> Float[Array, "b d"]:
        """Features of normalised images."""
        return unit_length(self.visual_projection(self.vision_model(images)))

    def texts(self, ids: Int[Array, "b m"]) -> Float[Array, "b d"]:
        """Features of text ids."""
        return unit_length(self.text_projection(self.text_model(ids)))

    def __call__(
        self, images: Float[Array, "b H W 3"], ids: Int[Array, "c m"]
    ) -> tuple[Float[Array, "b d"], Float[Array, "c d"]]:
        """Features of images and of texts."""
        return self.images(images), self.texts(ids)


class Vision(nn.Module):
    """Normalised images -> the class token's state [b, d]."""

    config: VisionConfig

    @nn.compact
    def __call__(self, images: Float[Array, "b H W 3"]) -> Float[Array, "b d"]:
        c, b = self.config, len(images)
        patches = nn.Conv(
            c.width,
            (c.patch, c.patch),
            c.patch,
            padding="VALID",
            use_bias=False,
            name="patch_embedding",
        )(images)
        x = patches.reshape(b, -1, c.width)
        init = nn.initializers.normal(0.02)
        start = self.param("class_embedding", init, (c.width,))
        x = jnp.concatenate([jnp.broadcast_to(start, (b, 1, c.width)), x], 1)
        positions = (c.side // c.patch) ** 2 + 1
        x = x + self.param("position_embedding", init, (positions, c.width))
        epsilon = c.tower.epsilon
        x = nn.LayerNorm(epsilon, use_fast_variance=False, name="pre_layrnorm")(x)  # as published
        x = Tower(c.tower, causal=False, name="encoder")(x)
        return nn.LayerNorm(epsilon, use_fast_variance=False, name="post_layernorm")(x[:, 0])


class Text(nn.Module):
    """Ids, with any padding after the end -> the state [b, d] at the end-of-text id."""

    config: TextConfig

    @nn.compact
    def __call__(self, ids: Int[Array, "b m"]) -> Float[Array, "b d"]:
        c, init = self.config, nn.initializers.normal
        table = self.param("token_embedding", init(0.02), (c.vocabulary, c.width))
        position = self.param("position_embedding", init(0.01), (c.length, c.width))
        x = table[ids] + position[: ids.shape[1]]
        x = Tower(c.tower, causal=True, name="encoder")(x)
        x = nn.LayerNorm(c.tower.epsilon, use_fast_variance=False, name="final_layer_norm")(x)
        ends = jnp.argmax(ids if c.end == LEGACY_END else ids == c.end, axis=1)
        return x[jnp.arange(len(ids)), ends]


class Tower(nn.Module):
    """A stack of blocks."""

    config: TowerConfig
    causal: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        for i in range(self.config.layers):
            x = Block(self.config, self.causal, name=f"layers_{i}")(x)
        return x


class Block(nn.Module):
    """Attention and feed-forward, each after a LayerNorm and added to its input."""

    config: TowerConfig
    causal: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        epsilon = self.config.epsilon
        y = nn.LayerNorm(epsilon, use_fast_variance=False, name="layer_norm1")(x)
        x = x + Attention(self.config.heads, self.causal, name="self_attn")(y)
        y = nn.LayerNorm(epsilon, use_fast_variance=False, name="layer_norm2")(x)
        return x + FeedForward(self.config.hidden, self.config.activation, name="mlp")(y)


class Attention(nn.Module):
    """Softmax attention."""

    heads: int
    causal: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        b, n, width = x.shape
        q, k, v = (
            nn.Dense(width, name=f"{name}_proj")(x).reshape(b, n, self.heads, width // self.heads)
            for name in "qkv"
        )
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=self.causal)
        return nn.Dense(width, name="out_proj")(mixed.reshape(b, n, width))


class FeedForward(nn.Module):
    """width -> hidden -> width."""

    hidden: int
    activation: str

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        y = ACTIVATIONS[self.activation](nn.Dense(self.hidden, name="fc1")(x))
        return nn.Dense(x.shape[-1], name="fc2")(y)


def unit_length(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """The rows divided by their lengths."""
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
