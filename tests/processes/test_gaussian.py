import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import oracle
from vilg.processes import DenoisingControls
from vilg.processes.gaussian import WEIGHTINGS, Gaussian, from_clean, to_clean
from vilg.types import UserError

torch, guiders = oracle("torch"), oracle("diffusers.guiders.guider_utils")

KINDS = ("eps", "x0", "v")
T = jnp.array([0.001, 0.2, 0.5, 0.9, 1.0], jnp.float32)


def example(process, seed=0):
    codes = jax.random.normal(jax.random.key(seed), (len(T), 2, 3, 4))
    return codes, process.corrupt(codes, T, jax.random.key(seed + 1))


@pytest.mark.parametrize("name", ["ddpm_linear", "ldm_linear", "cosine", "log_linear"])
def test_every_pair_of_parameterisations_round_trips(name):
    levels = [
        level[:, None]
        for level in Gaussian({"name": name}).schedule.levels(np.linspace(0.01, 1, 50))
    ]
    rng = np.random.default_rng(0)
    clean, eps = rng.normal(size=(50, 6)), rng.normal(size=(50, 6))
    noisy = levels[0] * clean + levels[1] * eps
    outputs = {"eps": eps, "x0": clean, "v": levels[0] * eps - levels[1] * clean}
    for a in KINDS:
        for b in KINDS:
            through = from_clean(b, to_clean(a, outputs[a], noisy, *levels), noisy, *levels)
            np.testing.assert_allclose(through, outputs[b], atol=1e-7)


def test_with_zero_terminal_snr_v_is_minus_the_codes_and_eps_is_refused():
    schedule = {"name": "ldm_linear", "zero_terminal_snr": True}
    process, codes = Gaussian(schedule, "v"), jnp.ones((1, 1, 1, 2))
    t = jnp.ones(1)
    noisy = process.corrupt(codes, t, jax.random.key(0))
    np.testing.assert_allclose(process.clean(-codes, noisy, t), codes, atol=1e-6)
    np.testing.assert_array_equal(process.loss(-codes, codes, noisy, t), 0)
    with pytest.raises(
        UserError, match="generator.process.prediction='eps': .* zero: predict 'v' or 'x0'"
    ):
        Gaussian(schedule, "eps")


def test_time_zero_is_the_identity():
    codes = jax.random.normal(jax.random.key(0), (2, 2, 2, 3))
    for name in ("ldm_linear", "log_linear"):
        np.testing.assert_array_equal(
            Gaussian({"name": name}).corrupt(codes, jnp.zeros(2), jax.random.key(1)), codes
        )


@pytest.mark.parametrize("prediction", KINDS)
def test_the_right_output_has_no_loss_and_gives_the_codes(prediction):
    process = Gaussian({"name": "ldm_linear"}, prediction)
    codes, noisy = example(process)
    alpha, sigma = (level[:, None, None, None] for level in process.schedule.levels(T))
    output = from_clean(prediction, codes, noisy, alpha, sigma)
    np.testing.assert_allclose(process.clean(output, noisy, T), codes, atol=1e-4)
    np.testing.assert_allclose(process.loss(output, codes, noisy, T), 0, atol=1e-8)


@pytest.mark.parametrize(
    "weighting",
    [
        "x0",
        "snr",
        "truncated_snr",
        {"name": "min_snr", "gamma": 5.0},
        {"name": "min_snr", "gamma": 0.5},
    ],
)
def test_a_weighting_is_one_loss_whatever_is_predicted(weighting):
    """Outputs that say the same of x0 have the same weighted loss under eps, x0 and v, and it is
    the factor times x0's error.
    """
    section = weighting if isinstance(weighting, dict) else {"name": weighting}
    gamma = section.get("gamma", 0)
    factor = {
        "x0": lambda s: 1 + 0 * s,
        "snr": lambda s: s,
        "truncated_snr": lambda s: np.maximum(s, 1),
        "min_snr": lambda s: np.minimum(s, gamma),
    }
    times = jnp.array([0.1, 0.3, 0.5, 0.8, 1.0], jnp.float32)
    for prediction in KINDS:
        process = Gaussian({"name": "ldm_linear"}, prediction, section)
        codes = jax.random.normal(jax.random.key(0), (5, 2, 3, 4))
        noisy = process.corrupt(codes, times, jax.random.key(1))
        alpha, sigma = (
            np.asarray(level)[:, None, None, None] for level in process.schedule.levels(times)
        )
        said = codes + 0.3 * jax.random.normal(jax.random.key(2), codes.shape)
        output = from_clean(prediction, said, noisy, alpha, sigma)
        loss = process.loss(output, codes, noisy, times)
        np.testing.assert_allclose(
            process.error(output, codes, noisy, times), np.mean((said - codes) ** 2, -1), rtol=2e-3
        )
        snr = (alpha / sigma) ** 2
        expected = factor[section["name"]](snr[..., 0]) * np.mean((said - codes) ** 2, -1)
        np.testing.assert_allclose(loss, expected, rtol=2e-3)


def test_min_snr_is_the_papers():
    """2303.09556, section 3.4: min(SNR, g) / SNR for eps, min(SNR, g) for x0, min(SNR, g) / (SNR +
    1) for v.
    """
    weights = {
        p: np.asarray(Gaussian({"name": "ldm_linear"}, p, {"name": "min_snr"}).weight(T))
        for p in KINDS
    }
    snr = np.exp(Gaussian().schedule.log_snr(np.asarray(T, np.float64)))
    assert snr.max() > 5 > snr.min()
    np.testing.assert_allclose(weights["eps"], np.minimum(snr, 5) / snr, rtol=1e-4)
    np.testing.assert_allclose(weights["x0"], np.minimum(snr, 5), rtol=1e-4)
    np.testing.assert_allclose(weights["v"], np.minimum(snr, 5) / (snr + 1), rtol=1e-4)


def test_weights_are_finite_at_both_ends():
    ends = jnp.array([0.0, 1.0])
    for name in WEIGHTINGS:
        for prediction in ("x0", "v"):
            process = Gaussian(
                {"name": "ldm_linear", "zero_terminal_snr": True}, prediction, {"name": name}
            )
            assert np.isfinite(process.weight(ends)).all(), (name, prediction)
    np.testing.assert_array_equal(Gaussian(prediction="v").weight(ends), 1)


def test_unit_weight_is_the_mean_over_channels():
    process = Gaussian(prediction="x0")
    codes, noisy = example(process)
    np.testing.assert_allclose(
        process.loss(jnp.zeros_like(codes), codes, noisy, T), np.mean(codes**2, -1), rtol=1e-6
    )


def test_guidance_rescale_is_diffusers():
    process = Gaussian()
    c, u = (jax.random.normal(jax.random.key(i), (3, 4, 4, 2)) for i in range(2))
    for guidance, rescale in ((3.0, 0.7), (7.5, 1.0), (2.0, 0.0)):
        theirs = guiders.rescale_noise_cfg(
            torch.from_numpy(np.array(u + guidance * (c - u))),
            torch.from_numpy(np.array(c)),
            rescale,
        ).numpy()
        np.testing.assert_allclose(process.guide(c, u, guidance, rescale), theirs, atol=1e-5)


def test_corrupted_codes_start_at_the_first_evaluation():
    """A variation of strength 0.4 begins at codes with the noise that the first evaluation is told
    of.
    """
    process = Gaussian()
    plan = process.sampling_plan(DenoisingControls(steps=10, first=0.4))
    codes = jnp.full((400, 1, 1, 1), 2.0)
    x = process.noisy(
        process.start(jax.random.split(jax.random.key(0), 400), (1, 1, 1), plan, codes)
    )
    alpha, sigma = process.schedule.levels(0.4)
    assert plan.times[0] == 0.4
    assert abs(x.mean() - 2 * alpha) < 4 * sigma / 20 and abs(x.std() - sigma) < 0.1


def test_known_positions_keep_their_codes():
    """Inpainting: with `certain` in place of the prediction where codes are known, they come out
    exactly, under any sampler.
    """
    process = Gaussian(prediction="x0")
    known = jnp.arange(4.0).reshape(1, 2, 2, 1) / 4
    mask = jnp.array([True, False, True, False]).reshape(1, 2, 2, 1)
    keys = jax.random.split(jax.random.key(0), 1)
    for sampler in ("ddim", "unipc"):
        plan = process.sampling_plan(DenoisingControls(sampler=sampler, steps=4))
        carry = process.start(keys, (2, 2, 1), plan)
        for j in range(len(plan.times)):
            prediction = jnp.where(mask, process.as_prediction(known), 0.9 * process.noisy(carry))
            carry = process.advance(carry, prediction, plan.row(j), keys, j)
        np.testing.assert_array_equal(process.result(carry)[mask], known[mask])


def test_what_does_not_go_together_is_refused():
    with pytest.raises(UserError, match="temperature=0.5: means nothing to a Gaussian"):
        Gaussian().sampling_plan(DenoisingControls(temperature=0.5))
    with pytest.raises(
        UserError, match="generator.process.times.mean=50.0: leaves under 1 % of the draws"
    ):
        Gaussian(times={"name": "lognormal", "mean": 50.0})
    with pytest.raises(
        UserError, match="generator.process.schedule.name='linear': .*known names are 'ddpm_linear'"
    ):
        Gaussian(schedule={"name": "linear"})
