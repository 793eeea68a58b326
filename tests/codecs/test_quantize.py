"""Both quantizers against torch's autograd: values, straight-through gradients, loss terms,
schedule, placing and reviving codes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import oracle
from vilg.codecs.quantize import QUANTIZERS, Gumbel, Nearest, nearest
from vilg.config import build
from vilg.types import UserError

torch, F = oracle("torch"), oracle("torch.nn.functional")

KEY, STEP = jax.random.key(0), jnp.int32(0)


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(np.float32) for s in shapes]


@pytest.mark.parametrize("legacy", [False, True])
def test_nearest_agrees_with_torch_in_loss_and_gradients(legacy):
    z, book, target = arrays((2, 3, 3, 4), (16, 4), (2, 3, 3, 4))

    def ours(z, book):
        out, ids, loss, _ = Nearest(beta=0.25, legacy_beta=legacy).quantize(
            {"codebook": book}, z, KEY, STEP
        )
        return jnp.sum(out * target) + loss, (out, ids, loss)

    (_, (out, ids, loss)), grads = jax.value_and_grad(ours, argnums=(0, 1), has_aux=True)(
        jnp.asarray(z), jnp.asarray(book)
    )
    tz, tb = torch.tensor(z, requires_grad=True), torch.tensor(book, requires_grad=True)
    expected_ids = ((tz[..., None, :] - tb) ** 2).sum(-1).argmin(-1)
    e = F.embedding(expected_ids, tb)
    codebook, commitment = ((e - tz.detach()) ** 2).mean(), ((e.detach() - tz) ** 2).mean()
    expected = 0.25 * codebook + commitment if legacy else codebook + 0.25 * commitment
    passed = tz + (e - tz).detach()
    ((passed * torch.tensor(target)).sum() + expected).backward()
    assert (np.asarray(ids) == expected_ids.numpy()).all()
    np.testing.assert_allclose(out, e.detach(), atol=1e-6)
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-5)
    np.testing.assert_allclose(grads[0], tz.grad, atol=1e-5)
    np.testing.assert_allclose(grads[1], tb.grad, atol=1e-5)


def test_the_correct_beta_weighs_the_commitment_and_the_legacy_one_the_codebook():
    z, book = arrays((8, 4), (16, 4))

    def gradient(quantizer, wrt):
        def loss(z, book):
            return quantizer.quantize({"codebook": book}, z, KEY, STEP)[2]

        return np.asarray(jax.grad(loss, argnums=wrt)(jnp.asarray(z), jnp.asarray(book)))

    none, legacy = Nearest(beta=0.0), Nearest(beta=0.0, legacy_beta=True)
    assert not gradient(none, 0).any() and gradient(none, 1).any()
    assert gradient(legacy, 0).any() and not gradient(legacy, 1).any()


def test_gumbel_agrees_with_torch_given_the_same_noise():
    z, kernel, bias, book, target = arrays((2, 3, 3, 4), (4, 16), (16,), (16, 4), (2, 3, 3, 4))
    quantizer = Gumbel(temperature=0.9, temperature_end=0.1, temperature_steps=100, kl_weight=0.3)
    step = jnp.int32(40)

    def ours(z, kernel, bias, book):
        params = {"projection": {"kernel": kernel, "bias": bias}, "codebook": book}
        out, ids, loss, metrics = quantizer.quantize(params, z, KEY, step)
        return jnp.sum(out * target) + loss, (out, ids, loss, metrics["temperature"])

    given = [jnp.asarray(a) for a in (z, kernel, bias, book)]
    (_, (out, ids, loss, temperature)), grads = jax.value_and_grad(
        ours, argnums=(0, 1, 2, 3), has_aux=True
    )(*given)
    tensors = [torch.tensor(a, requires_grad=True) for a in (z, kernel, bias, book)]
    logits = tensors[0] @ tensors[1] + tensors[2]
    noise = torch.tensor(np.asarray(jax.random.gumbel(KEY, (2, 3, 3, 16))))
    tau = 0.1 + 0.5 * 0.8 * (1 + np.cos(np.pi * 0.4))
    soft = ((logits + noise) / tau).softmax(-1)
    hard = F.one_hot(soft.argmax(-1), 16).float()
    e = (hard - soft.detach() + soft) @ tensors[3]
    q = logits.softmax(-1)
    expected = 0.3 * (q * torch.log(q * 16 + 1e-10)).sum(-1).mean()
    ((e * torch.tensor(target)).sum() + expected).backward()
    np.testing.assert_allclose(temperature, tau, rtol=1e-5)
    assert (np.asarray(ids) == soft.argmax(-1).numpy()).all()
    assert (np.asarray(ids) != logits.argmax(-1).numpy()).any(), "the noise does not show"
    np.testing.assert_allclose(out, e.detach(), atol=1e-5)
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-5)
    for ours_gradient, tensor in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(ours_gradient, tensor.grad, atol=2e-5)


def test_the_published_temperatures():
    temperature = Gumbel().temperature_at
    assert [float(temperature(jnp.int32(s))) for s in (0, 1_000_001, 2_000_000)] == pytest.approx(
        [0.9, 1e-6, 1e-6], rel=1e-3
    )
    assert float(temperature(jnp.int32(500_000))) == pytest.approx(0.45, rel=1e-4)


def test_gumbel_encodes_without_noise():
    z, kernel, bias, book = arrays((50, 4), (4, 16), (16,), (16, 4))
    params = {
        "projection": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)},
        "codebook": jnp.asarray(book),
    }
    assert (
        np.asarray(Gumbel().codes(params, jnp.asarray(z))) == np.argmax(z @ kernel + bias, -1)
    ).all()


@pytest.mark.parametrize("name", QUANTIZERS)
def test_placed_codes_are_the_nearest_centres(name):
    centres, points = arrays((16, 4), (200, 4))
    quantizer = QUANTIZERS[name]()
    params = jax.tree.map(
        lambda box: box.unbox(), quantizer.init(KEY, 16, 4), is_leaf=lambda x: hasattr(x, "unbox")
    )
    placed = quantizer.place(params, jnp.asarray(centres), jnp.float32(0.5))
    expected = np.argmin(((points[:, None] - centres) ** 2).sum(-1), -1)
    assert (np.asarray(quantizer.codes(placed, jnp.asarray(points))) == expected).all()
    np.testing.assert_array_equal(quantizer.lookup(placed, jnp.arange(16)), centres)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_revived_code_takes_its_site_and_the_others_stay(name):
    centres, points = arrays((16, 4), (16, 4))
    quantizer = QUANTIZERS[name]()
    params = quantizer.place(
        {"codebook": jnp.zeros((16, 4))}, jnp.asarray(centres), jnp.float32(0.5)
    )
    params = {**params, "codebook": params["codebook"].at[3].set(100.0)}
    if name == "gumbel":
        params["projection"]["bias"] = params["projection"]["bias"].at[3].set(-1e4)
    dead = jnp.arange(16) == 3
    assert 3 not in np.asarray(quantizer.codes(params, jnp.asarray(points)))
    revived = quantizer.revive(params, dead, jnp.asarray(points), KEY)
    assert int(quantizer.codes(revived, jnp.asarray(points[3:4]))[0]) == 3
    np.testing.assert_array_equal(revived["codebook"][3], points[3])
    np.testing.assert_array_equal(
        np.delete(revived["codebook"], 3, 0), np.delete(params["codebook"], 3, 0)
    )
    if name == "gumbel":
        before, after = (
            np.delete(quantizer.logits(p, jnp.asarray(points)), 3, -1) for p in (params, revived)
        )
        np.testing.assert_array_equal(before, after)


def test_equal_distances_go_to_the_first_code():
    assert (
        int(nearest(jnp.zeros((1, 2)), jnp.asarray([[5.0, 5.0], [1.0, 0.0], [0.0, 1.0]]))[0]) == 1
    )


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("nearest", {"beta": -1.0}),
        ("gumbel", {"temperature_end": 2.0}),
        ("gumbel", {"temperature_steps": 0}),
        ("nearest", {"kl_weight": 1.0}),
    ],
)
def test_bad_settings_are_refused(name, section):
    with pytest.raises(UserError, match=next(iter(section))):
        build(QUANTIZERS[name], section, "codec.quantizer")
