import jax
import numpy as np
import pytest
import scipy.stats

from vilg.processes.gaussian import Gaussian
from vilg.processes.splits import SPLITS, expert_of
from vilg.processes.training_times import TIME_DISTRIBUTIONS

SECTIONS = [
    ({"name": "ldm_linear"}, {"name": "uniform"}),
    ({"name": "log_linear"}, {"name": "lognormal", "mean": 1.7, "std": 1.0}),
    ({"name": "ldm_linear"}, {"name": "lognormal", "mean": -1.2, "std": 1.2}),
    ({"name": "cosine", "zero_terminal_snr": True}, {"name": "lognormal", "mean": 0.5, "std": 2.0}),
]
SLICES = [(0.0, 1.0), (0.3, 0.4), (0.95, 1.0), (0.0, 0.05)]

TABLE_DRAW = jax.jit(lambda low, high: Gaussian().draw_times(jax.random.key(1), 4000, low, high))


def process_of(schedule, times):
    return Gaussian(schedule, "v", times=times)


@pytest.mark.parametrize("schedule, times", SECTIONS, ids=str)
def test_draws_follow_the_cdf_inside_the_slice(schedule, times):
    process = process_of(schedule, times)
    draw = jax.jit(lambda low, high: process.draw_times(jax.random.key(0), 4000, low, high))
    for low, high in SLICES:
        t = np.asarray(draw(low, high), np.float64)
        assert np.all(t > low) and np.all(t <= np.float32(high))
        below, above = (process.times.cdf(np.float64(end), process.schedule) for end in (low, high))
        if (
            above - below > 1e-6
        ):  # else nothing of the training falls here, and only the bounds count
            mass = (process.times.cdf(t, process.schedule) - below) / (above - below)
            assert (
                scipy.stats.kstest(mass, "uniform").statistic < 2.5e-3
            )  # stratified: far closer than chance


def test_lognormal_is_the_closed_form():
    process = process_of(
        {"name": "log_linear", "sigma_min": 1e-4, "sigma_max": 1e4},
        {"name": "lognormal", "mean": 1.0, "std": 0.7},
    )
    log_ratio = process.schedule.log_ratio(
        np.asarray(process.draw_times(jax.random.key(0), 4000), np.float64)
    )
    assert scipy.stats.kstest(log_ratio, scipy.stats.norm(1.0, 0.7).cdf).statistic < 3e-3


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.0, 0.05), (0.3, 0.4), (0.95, 1.0)])
def test_the_tables_timesteps_are_whole_and_equally_likely(low, high):
    t = np.asarray(TABLE_DRAW(low, high), np.float64)
    steps = np.round(1000 * t).astype(int)
    np.testing.assert_allclose(1000 * t, steps, atol=1e-3)
    wanted = np.arange(round(1000 * low) + 1, round(1000 * high) + 1)
    values, counts = np.unique(steps, return_counts=True)
    np.testing.assert_array_equal(values, wanted)
    assert counts.max() - counts.min() <= 2


@pytest.mark.parametrize("name", sorted(TIME_DISTRIBUTIONS))
def test_one_draw_from_each_share_in_an_order_that_says_nothing(name):
    process = process_of({"name": "log_linear"}, {"name": name})
    draw = jax.jit(lambda key: process.draw_times(key, 64))
    t = np.asarray(draw(jax.random.key(2)), np.float64)
    shares = np.sort(np.ceil(64 * process.times.cdf(t, process.schedule)))
    assert len(np.unique(shares)) >= 60 and not np.all(np.diff(t) > 0)
    assert not np.array_equal(t, draw(jax.random.key(3)))


def test_quantiles_invert_the_cdf():
    mass = np.linspace(0.01, 0.99, 99)
    for schedule, times in SECTIONS:
        process = process_of(schedule, times)
        np.testing.assert_allclose(
            process.times.cdf(process.quantile(mass), process.schedule), mass, atol=1e-8
        )


@pytest.mark.parametrize(
    "times", [{"name": "table"}, {"name": "uniform"}, {"name": "lognormal", "mean": -1.0}], ids=str
)
def test_an_expert_draws_only_what_is_routed_to_it_with_traced_ends(times):
    process = process_of({"name": "ldm_linear"}, times)
    draw = jax.jit(lambda key, low, high: process.draw_times(key, 256, low, high))
    for split in (
        SPLITS["uniform"](20),
        SPLITS["uniform"](10),
        SPLITS["tree"](4),
        SPLITS["ends"](),
    ):
        edges = split.edges(process.quantile)
        for expert in range(split.experts):
            t = draw(jax.random.key(expert), edges[expert], edges[expert + 1])
            assert np.all(expert_of(t, edges) == expert) and np.all(
                expert_of(np.asarray(t), edges) == expert
            )


@pytest.mark.parametrize("jitter", [0.0, 1 - 2**-24])
@pytest.mark.parametrize("times", [{"name": "table"}, {"name": "uniform"}], ids=str)
def test_the_luckless_draw_at_the_very_end_of_a_slice_stays_in_it(jitter, times, monkeypatch):
    """What happens once in millions of draws: a time that rounds to the neighbour's edge, or a
    timestep that is the neighbour's.
    """
    monkeypatch.setattr(
        jax.random, "uniform", lambda key, shape: jax.numpy.full(shape, jitter, jax.numpy.float32)
    )
    process, edges = (
        process_of({"name": "ldm_linear"}, times),
        SPLITS["uniform"](20).edges(Gaussian().quantile),
    )
    for expert in (0, 6, 13, 19):
        t = np.asarray(
            process.draw_times(jax.random.key(0), 4, edges[expert], edges[expert + 1]), np.float64
        )
        assert np.all(expert_of(t, edges) == expert)
        assert times["name"] != "table" or np.allclose(1000 * t, np.round(1000 * t), atol=1e-3)
