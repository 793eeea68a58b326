import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import oracle
from vilg.processes.schedules import SCHEDULES
from vilg.types import UserError

torch, diffusers = oracle("torch"), oracle("diffusers")

BETAS = {
    "ddpm_linear": dict(beta_schedule="linear", beta_start=1e-4, beta_end=2e-2),
    "ldm_linear": dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    "cosine": dict(beta_schedule="squaredcos_cap_v2"),
}
TIMES = np.arange(1, 1001) / 1000
EVERY = [SCHEDULES[n](**o) for n in SCHEDULES for o in ({}, {"shift": 3.0})] + [
    SCHEDULES[n](zero_terminal_snr=True) for n in BETAS
]


@pytest.mark.parametrize("name", sorted(BETAS))
@pytest.mark.parametrize("terminal", [False, True])
def test_tables_are_diffusers(name, terminal):
    theirs = diffusers.DDIMScheduler(rescale_betas_zero_snr=terminal, **BETAS[name]).alphas_cumprod
    np.testing.assert_allclose(
        SCHEDULES[name](zero_terminal_snr=terminal).alpha(TIMES) ** 2,
        theirs.to(torch.float64),
        atol=3e-6,
    )


def test_the_two_linear_tables_differ():
    """PAPERS 1.5's trap: at t = 1 the amounts of signal are 0.00635 and 0.0683."""
    assert SCHEDULES["ddpm_linear"]().alpha(1.0) == pytest.approx(0.00635, abs=2e-5)
    assert SCHEDULES["ldm_linear"]().alpha(1.0) == pytest.approx(0.0683, abs=2e-4)


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_variance_is_preserved_noise_grows_and_zero_is_clean(schedule):
    t = np.linspace(0, 1, 777)
    alpha, sigma = schedule.levels(t)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-12)
    assert np.all(np.diff(schedule.log_ratio(t)[:-1]) > 0) and alpha.dtype == np.float64
    assert schedule.alpha(0.0) == 1 and schedule.sigma(0.0) == 0


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_time_inverts_log_ratio(schedule):
    t = np.linspace(0.002, 0.998, 500)
    np.testing.assert_allclose(schedule.time(schedule.log_ratio(t)), t, atol=1e-9)
    single = jnp.float32(t)
    np.testing.assert_allclose(schedule.time(schedule.log_ratio(single)), t, atol=2e-4)
    assert schedule.time(-np.inf) == 0 and schedule.time(100.0) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_training_sees_the_same_levels(schedule):
    ours, traced = schedule.levels(TIMES), jax.jit(schedule.levels)(jnp.float32(TIMES))
    for a, b in zip(ours, traced, strict=True):
        assert b.dtype == jnp.float32
        np.testing.assert_allclose(b, a, atol=3e-6)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_shift_moves_log_snr(name):
    shifted, plain = SCHEDULES[name](shift=4.0), SCHEDULES[name]()
    np.testing.assert_allclose(
        shifted.log_snr(TIMES), plain.log_snr(TIMES) + 2 * np.log(1 / 4), atol=1e-6
    )


def test_log_linear_is_linear_from_end_to_end():
    schedule = SCHEDULES["log_linear"](sigma_min=0.1, sigma_max=10.0)
    np.testing.assert_allclose(
        schedule.log_ratio(np.array([1e-9, 0.25, 0.5, 1.0])),
        np.log([0.1, 10**-0.5, 1.0, 10.0]),
        atol=1e-6,
    )


def test_zero_terminal_snr_is_zero():
    assert SCHEDULES["ldm_linear"](zero_terminal_snr=True).alpha(1.0) == 0
    assert SCHEDULES["ldm_linear"](zero_terminal_snr=True).alpha(jnp.float32(1.0)) == 0


def test_schedules_without_sense_are_refused():
    for name, options in (
        ("cosine", dict(shift=0.0)),
        ("log_linear", dict(sigma_min=2.0, sigma_max=1.0)),
        ("ddpm_linear", dict(last_beta=1e-5)),
    ):
        with pytest.raises(UserError, match="generator.process.schedule"):
            SCHEDULES[name](**options)
