"""Imports a taming-transformers VQGAN: its state dict becomes a codec's parameters (PAPERS 3.3; the
f = 8 model with 8192 codes of OpenImages is one of them).

LDM's KL autoencoders have the same names (import_kl.py). Separate because only here do the
published names and layouts occur: kernels (O, I, kh, kw) become (kh, kw, I, O), norm weights become
scales. Every array that the codec needs must be in the state dict in the right shape, and no other
array may be, except those of the training losses ("loss.*").
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vilg.codecs.autoencoder import Autoencoder
from vilg.codecs.convolutional import Convolutional
from vilg.codecs.weights import read
from vilg.config import require
from vilg.types import Params, UserError

PREFIX = "first_stage_model."  # in checkpoints that hold a transformer too (Net2Net)
QUANTIZERS = {
    "nearest": {("codebook",): "quantize.embedding.weight"},
    "gumbel": {
        ("codebook",): "quantize.embed.weight",
        ("projection", "kernel"): "quantize.proj.weight",
        ("projection", "bias"): "quantize.proj.bias",
    },
}


def published_name(path: tuple[str, ...], quantizer: str) -> str:
    """The state-dict key of one of our parameters; path as in ("encoder", "down_0_block_1",
    "conv1", "kernel").
    """
    if path[0] == "quantizer":
        return QUANTIZERS[quantizer][path[1:]]
    leaf = "bias" if path[-1] == "bias" else "weight"
    if path[0] == "output":
        return f"decoder.conv_out.{leaf}"
    if path[1] in ("quant_conv", "post_quant_conv"):
        return f"{path[1]}.{leaf}"
    module = re.sub(r"^(down|up)_(\d+)_(block|attn)_(\d+)", r"\1.\2.\3.\4", path[1])
    module = re.sub(r"^(down|up)_(\d+)_((?:down|up)sample)_conv", r"\1.\2.\3.conv", module)
    module = re.sub(r"^mid_", "mid.", module)
    return ".".join([path[0], module, *path[2:-1], leaf])


def published_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The published shape of an array that has this shape in our layout."""
    if len(shape) == 4:
        return (shape[3], shape[2], shape[0], shape[1])
    return (shape[1], shape[0], 1, 1) if name == "quantize.proj.weight" else shape


def to_our_layout(name: str, array: np.ndarray) -> np.ndarray:
    """A published array in our layout, float32."""
    array = np.asarray(array, np.float32)
    if name == "quantize.proj.weight":
        return array[:, :, 0, 0].T
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def expected(codec: Autoencoder) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """{published name: (path in our parameters, published shape)} of a codec; allocates nothing.

    Errors: UserError for an architecture that was not published.
    """
    require(
        isinstance(codec.architecture, Convolutional),
        "codec.architecture",
        codec.architecture,
        'importing needs name="convolutional"',
    )
    shapes = nn.meta.unbox(jax.eval_shape(codec.init, jax.random.key(0)))
    kind = "gumbel" if "projection" in shapes.get("quantizer", {}) else "nearest"
    layout = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(
        {k: v for k, v in shapes.items() if k != "discriminator"}
    ):
        path = tuple(k.key for k in keys)
        name = published_name(path, kind)
        layout[name] = (path, published_shape(name, leaf.shape))
    return layout


def convert(codec: Autoencoder, state: Mapping[str, np.ndarray]) -> Params:
    """The codec's parameters (arrays, no discriminator) from a published state dict.

    Errors: UserError naming what is missing, unexpected or of another shape.
    """
    if any(key.startswith(PREFIX) for key in state):
        state = {
            key.removeprefix(PREFIX): value
            for key, value in state.items()
            if key.startswith(PREFIX)
        }
    state = {key: value for key, value in state.items() if not key.startswith("loss.")}
    layout = expected(codec)
    wrong = [f"missing {name}" for name in layout if name not in state]
    wrong += [f"unexpected {name}" for name in state if name not in layout]
    wrong += [
        f"{name} has shape {tuple(state[name].shape)}, expected {shape}"
        for name, (_, shape) in layout.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        said = "; ".join(wrong[:5]) + more
        raise UserError(f"the checkpoint does not fit this codec: {said}; adapt the codec to it")
    params: dict[str, Any] = {}
    for name, (path, _) in layout.items():
        node = params
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = to_our_layout(name, state[name])
    return params


def load(codec: Autoencoder, path: str) -> Params:
    """The codec's parameters from a .ckpt (read without running its code), .safetensors or .npz
    file.
    """
    return convert(codec, read(path, "codec.import"))
