"""CLIP (Radford et al. 2021): a vision transformer and a causal text transformer that meet in one
space. The form of Hugging Face's CLIPModel.

OpenAI's and OpenCLIP's ViT models come so; those whose text tower is a BERT (Chinese CLIP) or whose
image tower is a ResNet do not. Which activation, how many heads and which id ends a text are not in
the weights but in config.json. For inference only: no axis names."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vilg.config import lookup, require
from vilg.nn.published import Published, nested, paths
from vilg.types import Params, UserError

ACTIVATIONS: dict[str, Callable] = {
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "gelu": lambda x: nn.gelu(x, approximate=False),
}
LEGACY_END = 2  # what config.json of OpenAI's models says where the end is the largest id


class Tower(nn.Module):
    """Pre-LN transformer blocks."""

    layers: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    causal: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        for i in range(self.layers):
            x = Block(
                self.heads,
                self.hidden,
                self.activation,
                self.epsilon,
                self.causal,
                name=f"layers_{i}",
            )(x)
        return x


class Block(nn.Module):
    """Attention and feed-forward, each after a LayerNorm and added to its input."""

    heads: int
    hidden: int
    activation: str
    epsilon: float
    causal: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        y = nn.LayerNorm(self.epsilon, use_fast_variance=False, name="layer_norm1")(x)
        x = x + Attention(self.heads, self.causal, name="self_attn")(y)
        y = nn.LayerNorm(self.epsilon, use_fast_variance=False, name="layer_norm2")(x)
        return x + FeedForward(self.hidden, self.activation, name="mlp")(y)


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


class Vision(nn.Module):
    """Normalised pictures -> the class token's state [b, d]."""

    side: int
    patch: int
    width: int
    tower: Mapping[str, Any]

    @nn.compact
    def __call__(self, images: Float[Array, "b H W 3"]) -> Float[Array, "b d"]:
        patches = nn.Conv(
            self.width,
            (self.patch, self.patch),
            self.patch,
            padding="VALID",
            use_bias=False,
            name="patch_embedding",
        )(images)
        x = patches.reshape(len(images), -1, self.width)
        start = self.param("class_embedding", nn.initializers.normal(0.02), (self.width,))
        x = jnp.concatenate([jnp.broadcast_to(start, (len(images), 1, self.width)), x], 1)
        x = x + self.param(
            "position_embedding",
            nn.initializers.normal(0.02),
            ((self.side // self.patch) ** 2 + 1, self.width),
        )
        epsilon = self.tower["epsilon"]
        x = nn.LayerNorm(epsilon, use_fast_variance=False, name="pre_layrnorm")(x)
        x = Tower(**self.tower, causal=False, name="encoder")(x)
        return nn.LayerNorm(epsilon, use_fast_variance=False, name="post_layernorm")(x[:, 0])


class Text(nn.Module):
    """Ids, padded at the end with anything -> the state [b, d] at the end-of-text id."""

    vocabulary: int
    length: int
    width: int
    end: int
    tower: Mapping[str, Any]

    @nn.compact
    def __call__(self, ids: Int[Array, "b m"]) -> Float[Array, "b d"]:
        table = self.param(
            "token_embedding", nn.initializers.normal(0.02), (self.vocabulary, self.width)
        )
        position = self.param(
            "position_embedding", nn.initializers.normal(0.01), (self.length, self.width)
        )
        x = Tower(**self.tower, causal=True, name="encoder")(table[ids] + position[: ids.shape[1]])
        x = nn.LayerNorm(self.tower["epsilon"], use_fast_variance=False, name="final_layer_norm")(x)
        ends = jnp.argmax(ids if self.end == LEGACY_END else ids == self.end, axis=1)
        return x[jnp.arange(len(ids)), ends]


class CLIP(nn.Module):
    """Both towers and their projections. Results have length 1, so that their products are
    cosines.
    """

    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    width: int

    def setup(self) -> None:
        self.vision_model, self.text_model = Vision(**self.vision), Text(**self.text)
        self.visual_projection = nn.Dense(self.width, use_bias=False)
        self.text_projection = nn.Dense(self.width, use_bias=False)

    def images(self, images: Float[Array, "b H W 3"]) -> Float[Array, "b d"]:
        """Of normalised pictures."""
        return unit_length(self.visual_projection(self.vision_model(images)))

    def texts(self, ids: Int[Array, "b m"]) -> Float[Array, "b d"]:
        """Of text ids."""
        return unit_length(self.text_projection(self.text_model(ids)))

    def __call__(
        self, images: Float[Array, "b H W 3"], ids: Int[Array, "c m"]
    ) -> tuple[Float[Array, "b d"], Float[Array, "c d"]]:
        """Both."""
        return self.images(images), self.texts(ids)


def unit_length(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """The rows divided by their lengths."""
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def from_config(config: Mapping[str, Any], path: str = "config.json") -> CLIP:
    """The network that a Hugging Face config.json describes. Errors: UserError for another model's,
    or a field that it lacks.
    """
    if config.get("model_type") != "clip":
        raise UserError(
            f"{path}: model_type={config.get('model_type')!r} is not 'clip'; give a CLIPModel's"
            " config.json"
        )
    vision, text = (
        dict(defaults) | dict(config.get(name) or {})
        for name, defaults in (("vision_config", VISION), ("text_config", TEXT))
    )
    towers = []
    for name, part in (("vision_config", vision), ("text_config", text)):
        width, heads = part["hidden_size"], part["num_attention_heads"]
        require(
            width % heads == 0,
            f"{path}: {name}.num_attention_heads",
            heads,
            f"must divide hidden_size={width}",
        )
        lookup(ACTIVATIONS, part["hidden_act"], f"{path}: {name}.hidden_act")
        towers.append(
            {
                "layers": part["num_hidden_layers"],
                "heads": heads,
                "hidden": part["intermediate_size"],
                "activation": part["hidden_act"],
                "epsilon": part["layer_norm_eps"],
            }
        )
    side, patch = vision["image_size"], vision["patch_size"]
    return CLIP(
        {"side": side, "patch": patch, "width": vision["hidden_size"], "tower": towers[0]},
        {
            "vocabulary": text["vocab_size"],
            "length": text["max_position_embeddings"],
            "width": text["hidden_size"],
            "end": text["eos_token_id"],
            "tower": towers[1],
        },
        config.get("projection_dim", 512),
    )


# What a config.json leaves out, it means so (transformers' CLIPVisionConfig and CLIPTextConfig, and
# files written by older versions).
SHARED = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
VISION = SHARED | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
}
TEXT = SHARED | {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
NAME = "a CLIPModel of Hugging Face that its config.json describes"
EMBEDDINGS = ("class_embedding", "patch_embedding", "token_embedding", "position_embedding")


def from_state(model: CLIP, state: Mapping[str, np.ndarray], path: str = "weights") -> Params:
    """The parameters from a CLIPModel's state dict. Errors: UserError naming the first key that is
    missing, of another shape or left over.
    """
    published = Published(state, NAME, path)
    side, length = model.vision["side"], model.text["length"]
    inputs = (
        jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32),
        jax.ShapeDtypeStruct((1, length), jnp.int32),
    )
    shapes: Any = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    flat: dict[tuple[str, ...], np.ndarray] = {}
    for where, shape in paths(shapes["params"]).items():
        name = published_name(where)
        if len(shape) == 4:
            flat[where] = published.take(name, (shape[3], shape[2], shape[0], shape[1])).transpose(
                2, 3, 1, 0
            )
        elif where[-1] == "kernel":
            flat[where] = published.take(name, shape[::-1]).T
        else:
            flat[where] = published.take(name, shape)
    published.finish(ignored=("position_ids", "logit_scale"))
    return nested(flat)


def published_name(where: tuple[str, ...]) -> str:
    """The state-dict key of one of our parameters; where as in ("text_model", "encoder",
    "layers_0", "mlp", "fc1", "kernel").
    """
    *module, leaf = (part.replace("layers_", "layers.") for part in where)
    embedding = next((part for part in (*module, leaf) if part in EMBEDDINGS), None)
    if embedding:
        return f"{module[0]}.embeddings.{embedding}" + (
            "" if embedding == "class_embedding" else ".weight"
        )
    return ".".join([*module, "bias" if leaf == "bias" else "weight"])
