import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vilg.processes import DenoisingControls
from vilg.processes.gaussian import Gaussian
from vilg.processes.samplers import SAMPLERS
from vilg.processes.splits import SPLITS, expert_of, expert_runs
from vilg.types import UserError

LOGNORMAL = Gaussian({"name": "log_linear"}, times={"name": "lognormal", "mean": 1.0, "std": 1.5})
ALL = (
    [SPLITS["uniform"](n) for n in (1, 2, 5, 10, 20)]
    + [SPLITS["tree"](n) for n in (1, 2, 8)]
    + [SPLITS["ends"](), SPLITS["ends"](level=5)]
)


@pytest.mark.parametrize("n", [1, 2, 5, 10, 20])
def test_uniform_is_the_papers_floor(n):
    steps = np.arange(1000)
    edges = SPLITS["uniform"](n).edges(Gaussian().quantile)
    wanted = steps // (1000 // n)
    np.testing.assert_array_equal(expert_of((steps + 1) / 1000, edges), wanted)
    np.testing.assert_array_equal(expert_of(jnp.float32((steps + 1) / 1000), edges), wanted)
    np.testing.assert_array_equal(
        jax.jit(lambda i: expert_of((i + 1.0) / 1000, edges))(jnp.arange(1000)), wanted
    )
    assert (
        expert_of(0.5, edges).dtype == np.int32
        and expert_of(jnp.float32(0.5), edges).dtype == jnp.int32
    )


@pytest.mark.parametrize("process", [Gaussian(), LOGNORMAL], ids=["table", "lognormal"])
def test_a_tree_has_equal_masses(process):
    t = np.asarray(process.draw_times(jax.random.key(0), 8000))
    counts = np.bincount(expert_of(t, SPLITS["tree"](8).edges(process.quantile)), minlength=8)
    np.testing.assert_allclose(counts, 1000, atol=10)


def test_the_ends_hold_the_outermost_leaves():
    t = np.asarray(LOGNORMAL.draw_times(jax.random.key(0), 8000))
    counts = np.bincount(
        expert_of(t, SPLITS["ends"](level=3).edges(LOGNORMAL.quantile)), minlength=3
    )
    np.testing.assert_allclose(counts, [1000, 6000, 1000], atol=10)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@pytest.mark.parametrize("process", [Gaussian(), LOGNORMAL], ids=["table", "lognormal"])
def test_all_times_asked_of_an_expert_lie_in_its_slice(sampler, process):
    for steps, spacing in itertools.product((2, 7, 50, 333), ("trailing", "leading", "linspace")):
        times = process.sampling_plan(
            DenoisingControls(sampler=sampler, steps=steps, spacing=spacing)
        ).times
        assert np.all(np.diff(times) <= 0) and np.all(times > 0) and np.all(times <= 1)
        for split in ALL:
            edges = split.edges(process.quantile)
            runs = expert_runs(times, edges)
            assert [first for _, first, _ in runs] + [len(times)] == [0] + [
                stop for _, _, stop in runs
            ]
            assert [e for e, _, _ in runs] == sorted(
                {e for e, _, _ in runs}, reverse=True
            )  # each expert is loaded once
            for expert, first, stop in runs:
                asked = times[first:stop]
                assert np.all(asked > edges[expert] - 1e-6) and np.all(
                    asked <= edges[expert + 1] + 1e-6
                )
            single = (
                np.float32(times) if steps != 50 else jnp.float32(times)
            )  # what the denoiser and the trainer work in
            np.testing.assert_array_equal(expert_of(single, edges), expert_of(times, edges))


def test_the_papers_fifty_steps_give_each_of_ten_experts_five():
    plan = Gaussian().sampling_plan(DenoisingControls(steps=50))
    runs = expert_runs(plan.times, SPLITS["uniform"](10).edges(Gaussian().quantile))
    assert runs == [(9 - k, 5 * k, 5 * k + 5) for k in range(10)]


def test_heuns_second_evaluation_may_be_the_next_experts():
    plan = Gaussian().sampling_plan(DenoisingControls(sampler="heun", steps=2))
    assert expert_runs(plan.times, SPLITS["uniform"](2).edges(Gaussian().quantile)) == [
        (1, 0, 1),
        (0, 1, 3),
    ]


def test_what_is_no_split_is_refused():
    for name, options in (
        ("uniform", dict(experts=7)),
        ("uniform", dict(experts=0)),
        ("tree", dict(experts=6)),
        ("ends", dict(level=1)),
    ):
        with pytest.raises(UserError, match="generator.experts.split"):
            SPLITS[name](**options)
    with pytest.raises(UserError, match="an expert would own no time"):
        SPLITS["tree"](2048).edges(Gaussian().quantile)
