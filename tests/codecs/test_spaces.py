"""What a generator draws: ids as they are, latents of zero mean and unit variance, whatever the
codec's own scale is.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vilg.codecs import CODECS
from vilg.codecs.spaces import SPACES, Ids, Latents, Raw, own_space
from vilg.config import build
from vilg.types import UserError

PATCH = {"name": "patch", "width": 16, "depth": 1, "channels": 4, "output_size": 1}
VQ = build(
    CODECS["vq"], dict(image_size=16, vocabulary=8, code_width=4, architecture=PATCH), "codec"
)
KL = build(CODECS["kl"], dict(image_size=16, latent_channels=3, architecture=PATCH), "codec")


def params(codec):
    return nn.meta.unbox(jax.jit(codec.init)(jax.random.key(0)))


def test_latents_have_unit_variance_and_come_back_as_they_were():
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (64, 16, 16, 3)), jnp.float32)
    space, weights = Latents(KL), params(KL)
    raw = np.asarray(KL.latents(weights, images)) * np.array([1.0, 30.0, 0.01]) + np.array(
        [5.0, 0.0, -1.0]
    )
    scale = space.measure(raw)
    np.testing.assert_allclose(scale["mean"], raw.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)
    frozen = space.freeze(weights, space.measure(np.asarray(KL.latents(weights, images))))
    codes = np.asarray(space.encode(frozen, images))
    np.testing.assert_allclose(codes.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(codes.std((0, 1, 2)), 1, rtol=1e-3)
    np.testing.assert_allclose(
        space.decode(frozen, jnp.asarray(codes)),
        KL.from_latents(weights, KL.latents(weights, images)),
        atol=1e-5,
    )
    np.testing.assert_array_equal(
        space.encode(space.freeze(weights, None), images), KL.latents(weights, images)
    )


def test_latents_that_do_not_vary_are_refused():
    with pytest.raises(UserError, match="its latents have standard deviation"):
        Latents(KL).measure(np.ones((4, 2, 2, 3), np.float32))


def test_a_codec_without_ids_has_no_space_of_ids():
    with pytest.raises(UserError, match="codec.name: KL has no ids"):
        SPACES["ids"](KL)
    assert isinstance(own_space(KL), Raw) and isinstance(own_space(VQ), Ids)


def test_ids_are_the_tokenizers():
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)), jnp.float32)
    weights = params(VQ)
    space = Ids(VQ)
    codes = space.encode(space.freeze(weights, None), images)
    np.testing.assert_array_equal(codes, VQ.encode(weights, images))
    np.testing.assert_array_equal(space.decode(weights, codes), VQ.decode(weights, codes))
    assert not Ids.scaled and Latents.scaled
