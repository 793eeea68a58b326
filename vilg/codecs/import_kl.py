"""Imports a published KL autoencoder (LDM's kl-f8 and its kin): a state dict of CompVis' first
stage or of diffusers' AutoencoderKL.

Separate because only here do diffusers' names occur. They become CompVis' names, which
import_taming.py maps and checks.
"""

import re
from collections.abc import Mapping

import numpy as np

from vilg.codecs import import_taming
from vilg.codecs.convolutional import Convolutional
from vilg.codecs.kl import KL
from vilg.codecs.weights import read
from vilg.types import Params

# The factor of the published kl-f8's latents; the scale of another codec's latents is measured.
PUBLISHED_SCALE = 0.18215
RENAMED = (
    (r"\.down_blocks\.(\d+)\.resnets\.", r".down.\1.block."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.up\.(\d+)\.resnets\.", r".up.\1.block."),
    (r"\.up\.(\d+)\.upsamplers\.0\.", r".up.\1.upsample."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.attn_1\.group_norm\.", ".attn_1.norm."),
    (r"\.attn_1\.(?:to_([qkv])|(q)uery|(k)ey|(v)alue)\.", r".attn_1.\1\2\3\4."),
    (r"\.attn_1\.(?:to_out\.0|proj_attn)\.", ".attn_1.proj_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)


def compvis(codec: KL, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict by CompVis' names. diffusers counts the decoder's levels from the other end,
    and the projections of its attention are matrices instead of 1x1 convolutions.
    """
    architecture = codec.architecture
    levels = len(architecture.multipliers) if isinstance(architecture, Convolutional) else 0
    renamed = {}
    for name, array in state.items():
        name = re.sub(r"\.up_blocks\.(\d+)\.", lambda m: f".up.{levels - 1 - int(m[1])}.", name)
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        matrix = ".attn_1." in name and np.ndim(array) == 2
        renamed[name] = np.asarray(array)[:, :, None, None] if matrix else array
    return renamed


def convert(codec: KL, state: Mapping[str, np.ndarray]) -> Params:
    """The codec's parameters (arrays, no discriminator) from a published state dict of either kind.

    Errors: those of import_taming.convert.
    """
    return import_taming.convert(codec, compvis(codec, state))


def load(codec: KL, path: str) -> Params:
    """The codec's parameters from a .ckpt (read without running its code), .safetensors, .bin or
    .npz file.
    """
    return convert(codec, read(path, "codec.import"))
