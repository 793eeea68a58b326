"""KL: its divergence against torch, the loss it reports, what its weight and its clip do, learning;
the identity codec of pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from tests.oracles import oracle
from vilg.codecs import CODECS, base, kl
from vilg.config import build
from vilg.experiment import build_experiment
from vilg.experiment_file import load_config
from vilg.types import Codec, Tokenizer, Trainable, UserError

torch = oracle("torch")

KEY = jax.random.key(0)
PATCH = {"name": "patch", "patch": 4, "width": 32, "depth": 1, "channels": 8, "output_size": 1}


def codec(**more):
    return build(
        CODECS["kl"],
        {"image_size": 16, "latent_channels": 4, "architecture": PATCH, **more},
        "codec",
    )


def started(codec, n=4):
    batch = {
        "image": jnp.asarray(np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3)), jnp.uint8)
    }
    return nn.meta.unbox(jax.jit(codec.init)(KEY)), batch


def test_the_divergence_is_torchs():
    mean, log_variance = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2)).astype(np.float32)
    posterior = torch.distributions.Normal(
        torch.from_numpy(mean), torch.from_numpy(np.exp(0.5 * log_variance))
    )
    expected = torch.distributions.kl_divergence(
        posterior, torch.distributions.Normal(0.0, 1.0)
    ).sum((1, 2, 3))
    np.testing.assert_allclose(
        kl.divergence(jnp.asarray(mean), jnp.asarray(log_variance)), expected, rtol=1e-5
    )
    zeros = jnp.zeros((2, 3, 3, 1))
    assert not np.any(kl.divergence(zeros, zeros))
    assert not np.any(jax.grad(lambda m, v: jnp.sum(kl.divergence(m, v)), (0, 1))(zeros, zeros)), (
        "the unit Gaussian is the minimum"
    )


def test_the_loss_is_ldms_divided_by_the_number_of_values():
    vae = codec(kl_weight=0.3, l2=2.0)
    params, batch = started(vae)
    loss, metrics = jax.jit(vae.loss)(params, batch, KEY, jnp.int32(0))
    images = base.to_unit(batch["image"])
    mean, log_variance = vae.posterior(params, images)
    latents = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(KEY, mean.shape)
    decoded = vae._to_image(params["output"], vae._features(params, latents))
    nats = kl.divergence(mean, log_variance)
    ldm = (
        jnp.sum(jnp.abs(decoded - images) + 2.0 * (decoded - images) ** 2) / 4
        + 0.3 * jnp.sum(nats) / 4
    )
    assert float(loss) == pytest.approx(float(ldm) / (16 * 16 * 3), rel=1e-4)
    assert (
        float(metrics["kl"]) == pytest.approx(float(jnp.mean(nats)), rel=1e-4)
        and float(nats.min()) > 0
    )
    assert all(
        m.shape == () and m.dtype == jnp.float32 and jnp.isfinite(m)
        for m in (loss, *metrics.values())
    )


def test_training_samples_the_posterior_and_latents_are_its_mean():
    vae = codec()
    params, batch = started(vae)
    images = base.to_unit(batch["image"])
    losses = {float(vae.loss(params, batch, jax.random.key(i), jnp.int32(0))[0]) for i in range(3)}
    assert len(losses) == 3
    mean, log_variance = vae.posterior(params, images)
    assert np.array_equal(vae.latents(params, images), mean)
    still = jax.tree.map(jnp.copy, params)
    kernel, bias = still["encoder"]["latents"]["kernel"], still["encoder"]["latents"]["bias"]
    still["encoder"]["latents"] = {
        "kernel": kernel.at[:, 4:].set(0),
        "bias": bias.at[4:].set(-100.0),
    }
    mean, log_variance = vae.posterior(still, images)
    assert np.all(log_variance == -30)
    decoded = vae._to_image(still["output"], vae._features(still, mean))
    expected = float(jnp.mean(jnp.abs(decoded - images)))
    assert float(vae.loss(still, batch, KEY, jnp.int32(0))[1]["l1"]) == pytest.approx(
        expected, rel=1e-5
    ), "no variance, no noise"


def test_without_a_weight_the_divergence_has_no_gradient():
    params, batch = started(codec())

    def gradient(weight):
        return jax.grad(lambda p: codec(kl_weight=weight).loss(p, batch, KEY, jnp.int32(0))[0])(
            params
        )["encoder"]["latents"]["bias"]

    def divergence(p):
        return jnp.mean(kl.divergence(*codec().posterior(p, base.to_unit(batch["image"]))))

    added = jax.grad(divergence)(params)["encoder"]["latents"]["bias"] / (16 * 16 * 3)
    np.testing.assert_allclose(gradient(1.0) - gradient(0.0), added, rtol=1e-3, atol=1e-6)
    assert np.abs(added).max() > 1e-3


def test_its_discriminator_and_its_limit():
    vae = codec(discriminator={"weight": 0.5, "start": 2, "width": 16, "layers": 2, "groups": 8})
    params, batch = started(vae)
    before, after = (vae.loss(params, batch, KEY, jnp.int32(step))[1] for step in (1, 2))
    assert before["adaptive_weight"] == 0 and after["adaptive_weight"] > 0.02
    limited = codec(
        discriminator={
            "weight": 0.5,
            "start": 2,
            "width": 16,
            "layers": 2,
            "groups": 8,
            "limit": 0.01,
        }
    )
    assert float(
        limited.loss(params, batch, KEY, jnp.int32(2))[1]["adaptive_weight"]
    ) == pytest.approx(0.005)
    assert set(jax.tree.leaves(vae.labels(params))) == {"generator", "discriminator"}


def test_a_few_steps_of_kl_tiny_lower_its_loss():
    config = load_config("experiments/tokenizer.py:kl_tiny")
    config.codec.architecture.update(width=32, channels=8)
    experiment = build_experiment(config)
    vae, tx = experiment.image_codec, optax.adam(1e-2)
    params = nn.meta.unbox(jax.jit(vae.init)(KEY))
    batch = next(
        iter(
            experiment.data.loader.once(
                experiment.data.valid, None, image_size=32, batch_size=16, limit=16
            )
        )
    )
    batch = {"image": jnp.asarray(batch["image"])}

    @jax.jit
    def update(params, state, step):
        (loss, _), gradient = jax.value_and_grad(vae.loss, has_aux=True)(
            params, batch, jax.random.fold_in(KEY, step), step
        )
        change, state = tx.update(gradient, state)
        return optax.apply_updates(params, change), state, loss

    state, losses = tx.init(params), []
    for step in range(30):
        params, state, loss = update(params, state, jnp.int32(step))
        losses.append(float(loss))
    assert losses[-1] < 0.4 * losses[0], losses
    images = base.to_unit(batch["image"])
    error = jnp.mean(jnp.square(vae.from_latents(params, vae.latents(params, images)) - images))
    assert error < jnp.var(images), "the mean colour is no reconstruction"


@pytest.mark.parametrize("patch", [1, 4])
def test_pixels_are_their_own_latents(patch):
    pixels = build(CODECS["pixels"], {"image_size": 16, "patch": patch}, "codec")
    images = base.to_unit(
        jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)), jnp.uint8)
    )
    latents = pixels.latents({}, images)
    assert latents.shape == (2, 16 // patch, 16 // patch, 3 * patch**2)
    assert np.array_equal(pixels.from_latents({}, latents), images)
    np.testing.assert_array_equal(
        latents[0, 1, 2].ravel(), images[0, patch : 2 * patch, 2 * patch : 3 * patch].ravel()
    )
    assert float(pixels.from_latents({}, 9 * latents).max()) == 1
    assert (
        isinstance(pixels, Codec) and not isinstance(pixels, Trainable) and pixels.init(KEY) == {}
    )


def test_kl_is_a_codec_and_trainable_and_has_no_ids():
    assert isinstance(codec(), Codec) and isinstance(codec(), Trainable)
    assert not isinstance(codec(), Tokenizer) and codec().init_statistics() is None


@pytest.mark.parametrize(
    ("name", "section", "message"),
    [
        ("kl", {"latent_channels": 0}, "codec.latent_channels=0"),
        ("kl", {"kl_weight": -1.0}, "codec.kl_weight=-1.0: must not be negative"),
        ("kl", {"vocabulary": 8}, "codec.vocabulary=8: unknown field of KL"),
        ("pixels", {"patch": 0}, "codec.patch=0"),
        ("pixels", {"patch": 3}, "codec.image_size=16: must be a multiple of patch=3"),
        ("pixels", {"image_size": 0}, "codec.image_size=0"),
    ],
)
def test_mistakes_are_named(name, section, message):
    given = {"kl": {"image_size": 16, "latent_channels": 4}, "pixels": {"image_size": 16}}[name]
    with pytest.raises(UserError, match=message):
        build(CODECS[name], {**given, **section}, "codec")
