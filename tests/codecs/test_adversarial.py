"""The adversarial loss: all gradients of the one sum against the published two phases in torch, and
who gets which from when.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.oracles import oracle
from vilg.codecs import CODECS, import_taming
from vilg.codecs.adversarial import adaptive_weight
from vilg.codecs.discriminator import hinge
from vilg.config import build
from vilg.types import UserError

torch, F = oracle("torch"), oracle("torch.nn.functional")
torch_vqgan = oracle("tests.codecs.torch_vqgan")

KEY = jax.random.key(0)
ARCHITECTURE = {
    "name": "convolutional",
    "channels": 32,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention_at": (8,),
    "latent_channels": 24,
}
DISCRIMINATOR = {"weight": 0.8, "start": 10, "warmup": 5, "width": 32, "layers": 2}


def codec(**more):
    section = {
        "image_size": 16,
        "vocabulary": 32,
        "code_width": 16,
        "architecture": ARCHITECTURE,
        "discriminator": DISCRIMINATOR,
    }
    return build(CODECS["vq"], {**section, **more}, "codec")


def import_discriminator(model, of=lambda p: p):
    """A torch PatchGAN's parameters, or what `of` makes of each, in our layout (only a test needs
    them: published ones have BatchNorm).
    """
    params, index, stages = {}, 0, list(model.main)
    for stage in stages:
        arrays = {k: of(p).detach().numpy().copy() for k, p in stage.named_parameters()}
        if isinstance(stage, torch.nn.Conv2d):
            bias = {"bias": arrays["bias"]} if "bias" in arrays else {}
            params[f"conv_{index}"] = {"kernel": arrays["weight"].transpose(2, 3, 1, 0), **bias}
            index += 1
        elif isinstance(stage, torch.nn.GroupNorm):
            params[f"norm_{index - 1}"] = {"scale": arrays["weight"], "bias": arrays["bias"]}
    return jax.tree.map(jnp.asarray, params)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    vqgan = torch_vqgan.randomize(
        torch_vqgan.VQGAN("nearest", 32, (1, 2), 1, (8,), 16, 24, 16, 32), 0
    )
    return vqgan, torch_vqgan.randomize(torch_vqgan.PatchGAN(32, 2), 1)


@pytest.fixture(scope="module")
def started(models):
    state = {k: v.numpy() for k, v in models[0].state_dict().items()}
    params = {
        **import_taming.convert(codec(), state),
        "discriminator": import_discriminator(models[1]),
    }
    batch = {
        "image": jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)), jnp.uint8)
    }
    return params, batch


@pytest.fixture(scope="module")
def differentiated(started):
    """(loss, metrics), gradients at a step."""
    function = jax.jit(
        jax.value_and_grad(lambda p, step: codec().loss(p, started[1], KEY, step), has_aux=True)
    )
    return lambda step: function(started[0], jnp.int32(step))


def size(tree):
    return max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(tree))


def test_the_discriminator_agrees_with_torch(models, started):
    x = np.random.default_rng(1).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    ours = (
        codec()
        .discriminator.network()
        .apply({"params": started[0]["discriminator"]}, jnp.asarray(x))
    )
    with torch.no_grad():
        expected = models[1](torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    assert ours.shape == (2, 2, 2, 1)
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1), atol=1e-4)


def test_the_discriminator_has_our_names_and_shapes(started):
    shapes = nn.meta.unbox(jax.eval_shape(codec().init, KEY))["discriminator"]
    assert jax.tree.map(np.shape, started[0]["discriminator"]) == jax.tree.map(
        lambda s: s.shape, shapes
    )


def test_the_sum_has_the_gradients_of_both_published_phases(models, started, differentiated):
    vqgan, critic = models
    vqgan.zero_grad()
    critic.zero_grad()
    x = (
        torch.from_numpy(np.asarray(started[1]["image"]).transpose(0, 3, 1, 2).copy()).float()
        / 127.5
        - 1
    )
    latents = vqgan.latents(x)
    e = vqgan.embeddings(vqgan.codes(latents))
    quantizer_loss = ((e - latents.detach()) ** 2).mean() + 0.25 * (
        (e.detach() - latents) ** 2
    ).mean()
    decoded = vqgan.paint(latents + (e - latents).detach())
    reconstruction, generator = (x - decoded).abs().mean(), -critic(decoded).mean()
    last = vqgan.decoder.conv_out.weight
    norms = [
        torch.autograd.grad(term, last, retain_graph=True)[0].norm()
        for term in (reconstruction, generator)
    ]
    weight = (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach() * 0.8
    (reconstruction + weight * generator + quantizer_loss).backward()
    expected = import_taming.convert(
        codec(), {k: p.grad.numpy() for k, p in vqgan.named_parameters()}
    )
    critic.zero_grad()
    judged = 0.5 * (F.relu(1 - critic(x)).mean() + F.relu(1 + critic(decoded.detach())).mean())
    judged.backward()
    expected["discriminator"] = import_discriminator(critic, lambda p: p.grad)
    weight, reconstruction, total = (
        t.item()
        for t in (
            weight,
            reconstruction,
            reconstruction + weight * generator + quantizer_loss + judged,
        )
    )

    (loss, metrics), gradients = differentiated(15)
    assert float(metrics["adaptive_weight"]) == pytest.approx(weight, rel=1e-3) and 0 < weight < 1e4
    assert float(loss) == pytest.approx(total, rel=1e-4)
    assert float(metrics["l1"]) == pytest.approx(reconstruction, rel=1e-4)
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(expected), strict=True
    ):
        scale = float(np.abs(theirs).max())
        np.testing.assert_allclose(
            ours, theirs, atol=1e-3 * scale + 1e-7, err_msg=jax.tree_util.keystr(path)
        )


def test_before_its_start_the_discriminator_gets_nothing_and_adds_nothing(started, differentiated):
    (loss, metrics), gradients = differentiated(9)
    assert size(gradients["discriminator"]) == 0 and size(gradients["encoder"]) > 0
    assert metrics["discriminator"] == metrics["generator"] == metrics["adaptive_weight"] == 0
    plain = codec(discriminator={})
    without = {k: v for k, v in started[0].items() if k != "discriminator"}
    alone, _ = jax.jit(plain.loss)(without, started[1], KEY, jnp.int32(9))
    assert float(loss) == pytest.approx(float(alone), rel=1e-6)


def test_while_it_warms_up_it_learns_but_its_loss_does_not_reach_the_codec(differentiated):
    (_, _), before = differentiated(9)
    (loss, metrics), during = differentiated(14)
    (_, _), after = differentiated(15)
    assert (
        size(during["discriminator"]) > 0
        and metrics["discriminator"] > 0
        and metrics["adaptive_weight"] == 0
    )
    for part in ("encoder", "decoder", "output", "quantizer"):
        same = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), before[part], during[part])
        assert max(jax.tree.leaves(same)) <= 1e-6 * size(before[part])
    assert size(
        jax.tree.map(lambda a, b: a - b, after["decoder"], during["decoder"])
    ) > 1e-3 * size(during["decoder"])
    routed = jax.tree.map(
        lambda a, b: float(jnp.max(jnp.abs(a - b))), after["discriminator"], during["discriminator"]
    )
    assert max(jax.tree.leaves(routed)) <= 1e-6 * size(during["discriminator"]), (
        "the generator's term reached the discriminator"
    )


def test_the_adaptive_weight_is_clamped_and_carries_no_gradient():
    kernel = jnp.ones(3)

    def weighted(scale):
        return adaptive_weight(kernel, lambda k: scale * jnp.sum(k), lambda k: 2.0 * jnp.sum(k))

    assert float(weighted(6.0)) == pytest.approx(6 * 3**0.5 / (2 * 3**0.5 + 1e-4))
    assert float(weighted(1e9)) == 1e4
    assert jax.grad(weighted)(6.0) == 0


def test_hinge():
    assert float(hinge(jnp.asarray([2.0, 0.0]), jnp.asarray([-3.0, 1.0]))) == 0.5 * (0.5 + 1.0)


def test_labels_and_parameters_only_where_there_is_a_discriminator():
    shapes = nn.meta.unbox(jax.eval_shape(codec().init, KEY))
    labels = codec().labels(shapes)
    assert set(jax.tree.leaves(labels["discriminator"])) == {"discriminator"}
    assert {x for k, v in labels.items() if k != "discriminator" for x in jax.tree.leaves(v)} == {
        "generator"
    }
    plain = codec(discriminator={})
    assert "discriminator" not in jax.eval_shape(plain.init, KEY)
    assert (
        plain.describe()["discriminator"].startswith("left out")
        and "0.8 from step 15" in codec().describe()["discriminator"]
    )


@pytest.mark.parametrize(
    "section", [{"weight": 1.0, "layers": 5}, {"width": 24}, {"layers": 0}, {"wieght": 1.0}]
)
def test_bad_settings_are_refused(section):
    with pytest.raises(UserError, match=list(section)[-1]):
        codec(discriminator=section)
