import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import oracle
from tests.processes.analytic import flow, posterior_mean, walk
from vilg.processes import DenoisingControls
from vilg.processes.gaussian import Gaussian, draw_noise
from vilg.processes.samplers import SAMPLERS, sampling_plan
from vilg.processes.schedules import SCHEDULES
from vilg.types import UserError

torch, diffusers = oracle("torch"), oracle("diffusers")
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)  # diffusers'

BETAS = {
    "ddpm_linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 2e-2},
    "ldm_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}
SCHEDULERS = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2},
    ),
    "unipc": ("UniPCMultistepScheduler", {"solver_order": 2, "solver_type": "bh2"}),
}
SCALED = {"euler", "heun"}  # they keep x / alpha
SHAPE = (2, 2, 3)


def theirs(schedule, controls, x, noise, monkeypatch, prediction="eps", **options):
    """(timesteps, [k + 1] variance-preserving x before each evaluation and the result) of
    diffusers' scheduler; noise [k] is injected.
    """
    name, fixed = SCHEDULERS[controls.sampler]
    cls = getattr(diffusers, name)
    kind = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}[prediction]
    scheduler = cls(
        timestep_spacing=controls.spacing,
        prediction_type=kind,
        **BETAS[schedule],
        **fixed,
        **options,
    )
    scheduler.set_timesteps(controls.steps)
    ours = SCHEDULES[schedule](zero_terminal_snr=options.get("rescale_betas_zero_snr", False))
    times = (scheduler.timesteps.numpy().astype(np.float64) + 1) / 1000
    alpha, sigma = (
        np.append(level, end) for level, end in zip(ours.levels(times), (1.0, 0.0), strict=True)
    )
    scale = alpha if controls.sampler in SCALED else np.ones_like(alpha)
    seen, feed = [x], iter(noise)
    module = __import__(cls.__module__, fromlist=["randn_tensor"])
    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: torch.from_numpy(next(feed)))
    sample = torch.from_numpy(x / scale[0]).float()
    for j, timestep in enumerate(scheduler.timesteps):
        shown = scheduler.scale_model_input(sample, timestep).numpy().astype(np.float64)
        clean = posterior_mean(shown, alpha[j], sigma[j])
        eps = (shown - alpha[j] * clean) / sigma[j]
        output = {"eps": eps, "x0": clean, "v": alpha[j] * eps - sigma[j] * clean}[prediction]
        extra = {"eta": controls.eta} if controls.sampler == "ddim" else {}
        sample = scheduler.step(
            torch.from_numpy(output).float(), timestep, sample, **extra
        ).prev_sample
        seen.append(sample.numpy() * scale[j + 1])
    return times, np.stack(seen)


def compare(schedule, controls, monkeypatch, prediction="eps", tolerance=1e-4, **options):
    process = Gaussian(
        {"name": schedule, "zero_terminal_snr": options.get("rescale_betas_zero_snr", False)},
        "x0" if prediction == "eps" else prediction,
    )
    plan = process.sampling_plan(controls)
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=SHAPE), rng.normal(size=(len(plan.times), *SHAPE)).astype(np.float32)
    times, expected = theirs(schedule, controls, x, noise, monkeypatch, prediction, **options)
    np.testing.assert_allclose(plan.times, times, atol=1e-7)
    np.testing.assert_allclose(
        walk(plan, process.schedule, x, noise), expected, atol=tolerance, rtol=0
    )


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "unipc"])
def test_equals_diffusers_step_by_step(sampler, spacing, monkeypatch):
    for schedule, steps in itertools.product(("ddpm_linear", "ldm_linear"), (4, 7, 20, 50)):
        compare(
            schedule, DenoisingControls(sampler=sampler, steps=steps, spacing=spacing), monkeypatch
        )


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_ancestral_ones_equal_diffusers_step_by_step(sampler, monkeypatch):
    for spacing, steps, eta in itertools.product(
        ("trailing", "leading"), (2, 20, 50), (0.0, 0.3, 1.0) if sampler == "ddim" else (0.0,)
    ):
        compare(
            "ldm_linear",
            DenoisingControls(sampler=sampler, steps=steps, spacing=spacing, eta=eta),
            monkeypatch,
        )


def test_ddpm_equals_diffusers_at_any_step_count(monkeypatch):
    for spacing, steps in itertools.product(("trailing", "linspace"), (7, 30)):
        compare(
            "ldm_linear",
            DenoisingControls(sampler="ddpm", steps=steps, spacing=spacing),
            monkeypatch,
        )


def test_all_thousand_steps_equal_diffusers(monkeypatch):
    compare("ldm_linear", DenoisingControls(sampler="ddpm", steps=1000), monkeypatch)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_cosine_equals_diffusers(sampler, monkeypatch):
    spacing = (
        "leading" if sampler in SCALED else "trailing"
    )  # their x / alpha is 1e4 at the noisy end, in float32
    compare(
        "cosine", DenoisingControls(sampler=sampler, steps=20, spacing=spacing), monkeypatch, "x0"
    )


def test_zero_terminal_snr_equals_diffusers(monkeypatch):
    controls = DenoisingControls(sampler="ddim", steps=20, eta=0.5)
    compare("ldm_linear", controls, monkeypatch, "v", rescale_betas_zero_snr=True)
    for sampler in ("dpmpp_2m", "unipc"):  # diffusers' alpha(1) is 2^-12 here, ours 0
        compare(
            "ldm_linear",
            DenoisingControls(sampler=sampler, steps=20),
            monkeypatch,
            "v",
            3e-4,
            rescale_betas_zero_snr=True,
        )


def test_ddim_without_noise_is_euler_where_diffusers_ddim_goes_astray():
    for steps, spacing in ((7, "trailing"), (30, "leading")):
        plans = [
            sampling_plan(
                SCHEDULES["ldm_linear"](),
                DenoisingControls(sampler=s, steps=steps, spacing=spacing),
            )
            for s in ("ddim", "euler")
        ]
        np.testing.assert_array_equal(plans[0].rows["matrix"], plans[1].rows["matrix"])


@pytest.mark.parametrize(
    "sampler, order", [("ddim", 1), ("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 3)]
)
def test_order_of_convergence(sampler, order):
    """On the exact flow of a normal target. UniPC's corrector adds an order to its predictor's two
    (2302.04867, theorem 3.1).
    """
    schedule, x, errors = (
        SCHEDULES["log_linear"](sigma_min=0.05, sigma_max=3.0),
        np.array([[-1.0, 0.3, 1.5]]),
        [],
    )
    for steps in (80, 160, 320):
        plan = sampling_plan(schedule, DenoisingControls(sampler=sampler, steps=steps, last=0.2))
        seen = walk(plan, schedule, x)[:-1]  # the last row is first order, to the clean end
        errors.append(
            np.abs(
                seen[-1] - flow(x, schedule.levels(plan.times[0]), schedule.levels(plan.times[-1]))
            ).max()
        )
    rates = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert np.all(np.abs(rates - order) < 0.1), rates


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@pytest.mark.parametrize("terminal", [False, True])
def test_a_perfect_prediction_is_kept_and_the_last_one_is_the_result(sampler, terminal):
    """With m0 = m1 = m2 = the clean codes, x stays on the line alpha x0 + sigma eps when no noise
    is added.
    """
    schedule = SCHEDULES["ldm_linear"](zero_terminal_snr=terminal)
    for steps in (1, 2, 3, 10):
        plan = sampling_plan(schedule, DenoisingControls(sampler=sampler, steps=steps))
        alpha, sigma = schedule.levels(plan.times)
        clean, eps, base = 0.3, -1.2, 0.0
        x = alpha[0] * clean + sigma[0] * eps
        for j, matrix in enumerate(plan.rows["matrix"]):
            if not plan.rows.get("noise", np.zeros(1)).any():
                np.testing.assert_allclose(x, alpha[j] * clean + sigma[j] * eps, atol=1e-9)
            x, base = matrix @ np.array([x, base, clean, clean if j else 0, clean if j > 1 else 0])
        np.testing.assert_array_equal(plan.rows["matrix"][-1, 0], [0, 0, 1, 0, 0])
        assert x == clean and np.isfinite(plan.rows["matrix"]).all()


@pytest.mark.parametrize("sampler", ["ddim", "heun", "unipc"])
def test_advance_does_what_the_table_says(sampler):
    process = Gaussian({"name": "ldm_linear"})
    plan = process.sampling_plan(
        DenoisingControls(sampler=sampler, steps=6, eta=0.5 if sampler == "ddim" else 0.0)
    )
    keys = jax.random.split(jax.random.key(0), 2)
    carry = process.start(keys, SHAPE, plan)
    noise = [np.asarray(draw_noise(keys, SHAPE, j + 1)) for j in range(len(plan.times))]
    expected = walk(plan, process.schedule, np.asarray(carry["x"], np.float64), noise)
    for j, t in enumerate(plan.times):
        np.testing.assert_allclose(process.noisy(carry), expected[j], atol=1e-4)
        alpha, sigma = process.schedule.levels(t)
        shown = np.asarray(process.noisy(carry))
        eps = jnp.float32((shown - alpha * posterior_mean(shown, alpha, sigma)) / sigma)
        prediction = process.clean(eps, process.noisy(carry), jnp.full(2, t, jnp.float32))
        carry = process.advance(carry, prediction, plan.row(j), keys, j)
    np.testing.assert_array_equal(process.result(carry), prediction)
    np.testing.assert_allclose(process.result(carry), expected[-1], atol=2e-4)


def test_stochastic_samplers_keep_the_distribution():
    process = Gaussian({"name": "log_linear", "sigma_min": 0.05, "sigma_max": 20.0}, "x0")
    for controls in (
        DenoisingControls(sampler="ddpm", steps=200),
        DenoisingControls(eta=1.0, steps=200),
        DenoisingControls(eta=0.5, steps=200),
    ):
        plan, rng = process.sampling_plan(controls), np.random.default_rng(1)
        result = walk(plan, process.schedule, rng.normal(size=4000), rng.normal(size=(200, 4000)))[
            -1
        ]
        assert abs(result.mean() - 0.7) < 0.03 and abs(result.std() - 0.4) < 0.02, (
            result.mean(),
            result.std(),
        )


def test_controls_that_do_not_fit_are_refused():
    schedule = SCHEDULES["ldm_linear"]()
    cases = [
        (dict(steps=1001), "steps=1001: must be from 1 to 1000"),
        (dict(steps=1000, sampler="unipc", spacing="leading"), "steps=1000: must be from 1 to 999"),
        (dict(steps=300, first=0.5, last=0.25), "steps=300: must be from 1 to 250"),
        (dict(steps=1, spacing="leading"), "steps=1: leaves no noise"),
        (dict(sampler="heun", eta=0.1), "eta=0.1: means nothing to sampler='heun'"),
        (dict(sampler="dim"), "sampler='dim': did you mean 'ddim'?"),
        (dict(steps=0), "steps=0: must be at least 1"),
        (dict(eta=1.5), "eta=1.5"),
        (dict(first=0.0), "first=0.0"),
        (dict(last=1.0), "last=1.0"),
        (dict(spacing="even"), "spacing='even'"),
        (dict(guidance=float("nan")), "guidance=nan"),
    ]
    for options, message in cases:
        with pytest.raises(UserError) as error:
            sampling_plan(schedule, DenoisingControls(**options))
        assert message in str(error.value), error.value
