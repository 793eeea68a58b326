"""Imports a published CLIP: the network from its config.json, its parameters from its state dict.

Separate from clip.py because only here do Hugging Face's names and defaults occur.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vilg.config import lookup, require
from vilg.nn.clip import ACTIVATIONS, CLIP, TextConfig, TowerConfig, VisionConfig
from vilg.nn.published import Published, nested, shapes_by_path
from vilg.types import Params, UserError

# A field that config.json leaves out has these values (in transformers' CLIPVisionConfig and
# CLIPTextConfig, and in files written by older versions).
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
PROJECTION = 512
NETWORK = "a CLIPModel of Hugging Face that its config.json describes"
EMBEDDINGS = ("class_embedding", "patch_embedding", "token_embedding", "position_embedding")


def from_config(config: Mapping[str, Any], path: str = "config.json") -> CLIP:
    """The network that a Hugging Face config.json describes.

    Errors: UserError for another model's file, an unknown activation, or heads that do not divide
    the width.
    """
    kind = config.get("model_type")
    if kind != "clip":
        raise UserError(
            f"{path}: model_type={kind!r} is not 'clip'; give a CLIPModel's config.json"
        )
    vision = VISION | dict(config.get("vision_config") or {})
    text = TEXT | dict(config.get("text_config") or {})
    return CLIP(
        VisionConfig(
            side=vision["image_size"],
            patch=vision["patch_size"],
            width=vision["hidden_size"],
            tower=_tower(vision, f"{path}: vision_config"),
        ),
        TextConfig(
            vocabulary=text["vocab_size"],
            length=text["max_position_embeddings"],
            width=text["hidden_size"],
            end=text["eos_token_id"],
            tower=_tower(text, f"{path}: text_config"),
        ),
        config.get("projection_dim", PROJECTION),
    )


def _tower(fields: Mapping[str, Any], path: str) -> TowerConfig:
    width, heads = fields["hidden_size"], fields["num_attention_heads"]
    require(
        width % heads == 0,
        f"{path}.num_attention_heads",
        heads,
        f"must divide hidden_size={width}",
    )
    lookup(ACTIVATIONS, fields["hidden_act"], f"{path}.hidden_act")
    return TowerConfig(
        layers=fields["num_hidden_layers"],
        heads=heads,
        hidden=fields["intermediate_size"],
        activation=fields["hidden_act"],
        epsilon=fields["layer_norm_eps"],
    )


def from_state(model: CLIP, state: Mapping[str, np.ndarray], path: str = "weights") -> Params:
    """The parameters from a CLIPModel's state dict.

    Errors: UserError naming the first key that is missing, of another shape or left over.
    """
    published = Published(state, NETWORK, path)
    images = jax.ShapeDtypeStruct((1, model.vision.side, model.vision.side, 3), jnp.float32)
    ids = jax.ShapeDtypeStruct((1, model.text.length), jnp.int32)
    shapes = shapes_by_path(model, images, ids)
    arrays: dict[tuple[str, ...], np.ndarray] = {}
    for where, shape in shapes.items():
        name = published_name(where)
        if len(shape) == 4:
            kernel = published.take(name, (shape[3], shape[2], shape[0], shape[1]))
            arrays[where] = kernel.transpose(2, 3, 1, 0)
        elif where[-1] == "kernel":
            arrays[where] = published.take(name, shape[::-1]).T
        else:
            arrays[where] = published.take(name, shape)
    published.finish(ignored=("position_ids", "logit_scale"))
    return nested(arrays)


def published_name(where: tuple[str, ...]) -> str:
    """The state-dict key of one of our parameters; where as in ("text_model", "encoder",
    "layers_0", "mlp", "fc1", "kernel").
    """
    *module, leaf = (part.replace("layers_", "layers.") for part in where)
    embedding = next((part for part in (*module, leaf) if part in EMBEDDINGS), None)
    if embedding:
        suffix = "" if embedding == "class_embedding" else ".weight"
        return f"{module[0]}.embeddings.{embedding}{suffix}"
    return ".".join([*module, "bias" if leaf == "bias" else "weight"])
