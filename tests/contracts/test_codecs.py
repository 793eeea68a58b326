"""Every codec of the table: the protocols, their shapes, and pictures that stay in range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vilg.codecs import CODECS
from vilg.codecs.base import to_unit
from vilg.config import build
from vilg.types import Codec, Tokenizer, Trainable

PATCH = {"name": "patch", "width": 16, "depth": 1, "channels": 4, "output_size": 1}
SECTIONS = {
    "vq": dict(image_size=16, vocabulary=8, code_width=4, architecture=PATCH),
    "kl": dict(image_size=16, latent_channels=3, architecture=PATCH),
    "pixels": dict(image_size=16, patch=2),
}


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_keeps_the_protocols(name):
    codec = build(CODECS[name], SECTIONS[name], "codec")
    assert isinstance(codec, Codec) and hash(codec) == hash(
        build(CODECS[name], SECTIONS[name], "codec")
    )
    params = nn.meta.unbox(jax.jit(codec.init)(jax.random.key(0)))
    assert isinstance(codec, Trainable) == bool(params), (
        "what has parameters can be trained, what has none need not be"
    )
    pixels = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)), jnp.uint8)
    images = to_unit(pixels)
    latents = jax.jit(codec.latents)(params, images)
    assert latents.shape == (2, *codec.grid, codec.latent_channels) and latents.dtype == jnp.float32
    assert np.array_equal(latents, jax.jit(codec.latents)(params, images)), "deterministic"
    pictures = jax.jit(codec.from_latents)(params, latents)
    assert pictures.shape == images.shape and pictures.dtype == jnp.float32
    assert float(jnp.max(jnp.abs(jax.jit(codec.from_latents)(params, 100 * latents)))) <= 1
    if isinstance(codec, Trainable):
        loss, metrics = jax.jit(codec.loss)(
            params, {"image": pixels}, jax.random.key(1), jnp.int32(0)
        )
        assert loss.shape == () and loss.dtype == jnp.float32 and "psnr" in metrics
    if isinstance(codec, Tokenizer):
        codes = jax.jit(codec.encode)(params, images)
        assert (
            codes.shape == (2, *codec.grid)
            and codes.dtype == jnp.int32
            and codec.vectors(params).shape == (8, codec.code_width)
        )
        assert np.array_equal(jax.jit(codec.decode)(params, codes), pictures), (
            "latents are quantized on the way out"
        )
        assert np.array_equal(
            jax.jit(codec.from_latents)(params, codec.vectors(params)[codes]), pictures
        )
