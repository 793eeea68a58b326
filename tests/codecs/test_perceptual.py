"""LPIPS against a torch module of its structure with random weights; where its weights may come
from; that leaving it out is said.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import oracle
from vilg.codecs import CODECS, perceptual
from vilg.config import build
from vilg.types import UserError

torch, torch_vqgan = oracle("torch"), oracle("tests.codecs.torch_vqgan")


@pytest.fixture(scope="module")
def theirs():
    model = torch_vqgan.randomize(torch_vqgan.LPIPS(), 0, scale=1.4)
    for i in range(5):
        weight = getattr(model, f"lin{i}").model[1].weight
        weight.data.abs_()
    return model.eval()


def pairs(n=2, size=16):
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (n, size, size, 3)).astype(np.float32) for _ in range(2)]


def to_torch(x):
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def state(model):
    return {k: v.numpy() for k, v in model.state_dict().items()}


@pytest.fixture(scope="module")
def measured():
    """(sum, distances), gradient of an LPIPS: compiled once, its weights an argument."""

    def total(b, a, levels, heads):
        distance = perceptual.LPIPS(levels, heads)(a, b)
        return jnp.sum(distance), distance

    compiled = jax.jit(jax.value_and_grad(total, has_aux=True))
    return lambda lpips, a, b: compiled(b, a, lpips.levels, lpips.heads)


def test_distances_and_gradients_agree_with_torch(theirs, measured):
    a, b = pairs()
    tb = to_torch(b).requires_grad_()
    expected = theirs(to_torch(a), tb)
    expected.sum().backward()
    (_, distance), gradient = measured(
        perceptual.from_state(state(theirs)), jnp.asarray(a), jnp.asarray(b)
    )
    np.testing.assert_allclose(distance, expected.detach(), rtol=1e-4)
    np.testing.assert_allclose(
        gradient, tb.grad.permute(0, 2, 3, 1), atol=1e-4 * float(tb.grad.abs().max())
    )


def test_equal_images_are_at_zero_with_a_finite_gradient(theirs, measured):
    a = jnp.asarray(pairs()[0])
    (value, _), gradient = measured(perceptual.from_state(state(theirs)), a, a)
    assert 0 <= value < 1e-12 and np.isfinite(gradient).all()


def test_features_that_are_all_zero_have_a_finite_gradient(theirs, measured):
    dead = {k: v * 0 - 1 if k.endswith("bias") else v * 0 for k, v in state(theirs).items()}
    a, b = (jnp.asarray(x) for x in pairs())
    (value, _), gradient = measured(perceptual.from_state(dead), a, b)
    assert value == 0 and np.isfinite(gradient).all()


def test_torchvision_names_and_checkpoint_prefixes_are_read(theirs):
    plain = state(theirs)
    other = {}
    for name, value in plain.items():
        part = name.split(".")
        other[
            f"features.{'.'.join(part[2:])}" if part[0] == "net" else f"loss.perceptual_loss.{name}"
        ] = value
    a, b = (
        jax.tree.leaves((m.levels, m.heads))
        for m in (perceptual.from_state(plain), perceptual.from_state(other))
    )
    assert len(a) == 31 and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_weights_that_do_not_fit_are_refused_by_name(theirs):
    missing = {k: v for k, v in state(theirs).items() if k != "lin3.model.1.weight"}
    with pytest.raises(UserError, match="lin3.model.1.weight"):
        perceptual.from_state(missing, "f.npz")
    with pytest.raises(UserError, match="net.slice2.5.weight has shape"):
        perceptual.from_state(
            {**state(theirs), "net.slice2.5.weight": np.zeros((1, 1, 3, 3))}, "f.npz"
        )


def test_the_codec_says_whether_it_has_the_term_and_uses_it(theirs, tmp_path):
    path = str(tmp_path / "lpips.npz")
    np.savez(path, **state(theirs))
    section = {"image_size": 16, "vocabulary": 16, "code_width": 4}
    without, given = (
        build(CODECS["vq"], {**section, **more}, "codec")
        for more in ({}, {"perceptual": path, "perceptual_weight": 0.5})
    )
    assert (
        without.describe()["perceptual"].startswith("left out")
        and path in given.describe()["perceptual"]
    )
    key = jax.random.key(0)
    params = jax.tree.map(
        lambda box: box.unbox(), given.init(key), is_leaf=lambda x: hasattr(x, "unbox")
    )
    batch = {
        "image": jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)), jnp.uint8)
    }
    plain, _ = jax.jit(without.loss)(params, batch, key, jnp.int32(0))
    total, metrics = jax.jit(given.loss)(params, batch, key, jnp.int32(0))
    assert float(metrics["perceptual"]) > 0
    assert float(total - plain) == pytest.approx(float(metrics["perceptual"]), rel=1e-4)
    images = batch["image"].astype(jnp.float32) / 127.5 - 1
    raw = given._to_image(
        params["output"],
        given._features(
            params, given.quantizer.lookup(params["quantizer"], given.encode(params, images))
        ),
    )
    with torch.no_grad():
        expected = 0.5 * theirs(to_torch(np.asarray(images)), to_torch(np.asarray(raw))).mean()
    assert float(metrics["perceptual"]) == pytest.approx(float(expected), rel=1e-3)


def test_a_perceptual_file_that_is_not_there_is_a_mistake_at_once():
    with pytest.raises(UserError, match="no such file"):
        build(
            CODECS["vq"],
            {"image_size": 32, "vocabulary": 16, "code_width": 4, "perceptual": "/none.npz"},
            "codec",
        )
