import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vilg.processes import DenoisingControls
from vilg.processes.absorbing import MASKINGS, Absorbing
from vilg.types import UserError

V = 3
PATTERNS = list(itertools.product((False, True), repeat=2))  # of two positions, which are masked


def conditionals(seed):
    """A denoiser of two positions that read anything: log p(id at position | what is not masked),
    as a function of ids [b 1 2].
    """
    table = jnp.log(
        jnp.asarray(np.random.default_rng(seed).dirichlet(np.ones(V), size=(V + 1, V + 1, 2)))
    )
    return lambda ids: table[ids[:, 0, 0], ids[:, 0, 1]][:, None]


def truth(seed):
    """(log p(x1, x2) [V, V], the denoiser that knows it)."""
    p = np.random.default_rng(seed).dirichlet(np.ones(V * V)).reshape(V, V)
    table = np.zeros((V + 1, V + 1, 2, V))
    table[..., 0, :], table[..., 1, :] = p.sum(1), p.sum(0)
    for known in range(V):
        table[known, V, 1], table[V, known, 0] = (
            p[known] / p[known].sum(),
            p[:, known] / p[:, known].sum(),
        )
    return np.log(p), lambda ids: jnp.log(jnp.float32(table))[ids[:, 0, 0], ids[:, 0, 1]][:, None]


def bound(process, denoise, codes, n=400):
    """The expected loss of one image, exactly: over every mask, and t by the midpoint rule."""
    t = jnp.asarray((np.arange(n) + 0.5) / n, jnp.float32)
    whole = jnp.broadcast_to(jnp.asarray(codes, jnp.int32).reshape(1, 1, 2), (n, 1, 2))
    m, total = np.asarray(process.masking.masked(t), np.float64), 0.0
    for pattern in PATTERNS:
        noisy = jnp.where(jnp.array(pattern), V, whole)
        nats = np.asarray(process.loss(denoise(noisy), whole, noisy, t), np.float64).sum((1, 2))
        total += np.mean(np.prod([m if hidden else 1 - m for hidden in pattern], 0) * nats)
    return total


@pytest.mark.parametrize("masking", sorted(MASKINGS))
def test_the_loss_is_the_mean_over_orders_of_revealing(masking):
    """Any denoiser: the bound is the likelihood of revealing positions one by one, averaged over
    orders, whatever the masking.
    """
    process, denoise = Absorbing(V, {"name": masking}), conditionals(0)
    for x1, x2 in itertools.product(range(V), repeat=2):
        both, first, second = (
            denoise(jnp.array([[ids]]))[0, 0] for ids in ((V, V), (x1, V), (V, x2))
        )
        orders = -np.array([both[0, x1] + first[1, x2], both[1, x2] + second[0, x1]])
        assert bound(process, denoise, (x1, x2)) == pytest.approx(orders.mean(), abs=2e-4)


@pytest.mark.parametrize("masking", sorted(MASKINGS))
def test_the_bound_is_tight_for_the_denoiser_that_knows(masking):
    log_p, denoise = truth(1)
    for codes in itertools.product(range(V), repeat=2):
        assert bound(Absorbing(V, {"name": masking}), denoise, codes) == pytest.approx(
            -log_p[codes], abs=2e-4
        )


def test_training_draws_estimate_the_bound():
    """The same number by what training does: draw, corrupt, loss."""
    process, denoise, n = Absorbing(V), conditionals(2), 40_000
    codes = jnp.broadcast_to(jnp.array([[[0, 2]]], jnp.int32), (n, 1, 2))
    t = process.draw_times(jax.random.key(0), n)
    noisy = process.corrupt(codes, t, jax.random.key(1))
    nats = np.asarray(process.loss(denoise(noisy), codes, noisy, t)).sum((1, 2))
    assert nats.mean() == pytest.approx(
        bound(process, denoise, (0, 2)), abs=float(5 * nats.std() / n**0.5)
    )


def test_largest_weight_cuts_the_weight():
    codes, t = jnp.zeros((2, 1, 1), jnp.int32), jnp.array([0.01, 0.5])
    masked, logits = jnp.full((2, 1, 1), V), jnp.zeros((2, 1, 1, V))
    for limit, weights in ((0.0, [100, 2]), (5.0, [5, 2])):
        loss = Absorbing(V, largest_weight=limit).loss(logits, codes, masked, t)
        np.testing.assert_allclose(loss[:, 0, 0], np.log(V) * np.array(weights), rtol=1e-5)


def test_only_masked_positions_have_loss_or_gradient():
    process, codes = Absorbing(V), jnp.array([[[0, 1, 2]]], jnp.int32)
    noisy = jnp.array([[[V, 1, V]]], jnp.int32)
    gradient = jax.grad(lambda logits: process.loss(logits, codes, noisy, jnp.array([0.5])).sum())(
        jnp.zeros((1, 1, 3, V))
    )
    np.testing.assert_array_equal(np.abs(gradient).sum((0, 1, 3)) > 0, [True, False, True])


@pytest.mark.parametrize("masking", sorted(MASKINGS))
def test_corrupt_masks_the_schedules_share_and_nothing_at_time_zero(masking):
    process = Absorbing(V, {"name": masking})
    codes = jnp.ones((3, 50, 50), jnp.int32)
    noisy = process.corrupt(codes, jnp.array([0.0, 0.3, 1.0]), jax.random.key(0))
    np.testing.assert_array_equal(noisy[0], codes[0])
    assert np.all(noisy[2] == V)
    assert np.mean(noisy[1] == V) == pytest.approx(float(process.masking.masked(0.3)), abs=0.04)


def sample(process, denoise, controls, n, codes=None, shape=(1, 2), key=0):
    """Ids of n rows, and those before each evaluation."""
    plan, keys = process.sampling_plan(controls), jax.random.split(jax.random.key(key), n)
    carry, seen = process.start(keys, shape, plan, codes), []
    advance = jax.jit(process.advance)
    for j, t in enumerate(plan.times):
        noisy = process.noisy(carry)
        seen.append(np.asarray(noisy))
        prediction = process.clean(denoise(noisy), noisy, jnp.full(n, t, jnp.float32))
        carry = advance(
            carry,
            prediction,
            {k: jnp.float32(v) for k, v in plan.row(j).items()},
            keys,
            jnp.int32(j),
        )
    return np.asarray(process.result(carry)), seen


def test_samples_have_the_distribution_of_the_denoiser_that_knows():
    log_p, denoise = truth(3)
    ids, _ = sample(Absorbing(V), denoise, DenoisingControls(steps=64), 8000)
    counts = np.zeros((V, V))
    np.add.at(counts, (ids[:, 0, 0], ids[:, 0, 1]), 1)
    np.testing.assert_allclose(counts / 8000, np.exp(log_p), atol=0.02)


def test_what_is_revealed_stays_and_all_is_revealed_at_the_schedules_pace():
    process = Absorbing(V)
    ids, seen = sample(
        process,
        lambda ids: jnp.zeros((*ids.shape, V)),
        DenoisingControls(steps=5),
        50,
        shape=(6, 6),
    )
    for j, (before, after) in enumerate(itertools.pairwise([*seen, ids])):
        np.testing.assert_array_equal(after[before != V], before[before != V])
        assert np.mean(after == V) == pytest.approx(1 - (j + 1) / 5, abs=0.04)
    assert np.all(ids < V)


def test_temperature_zero_takes_the_likeliest():
    table = jnp.log(jnp.array([0.3, 0.45, 0.25]))
    process = Absorbing(V)
    for temperature, share in (
        (0.0, 1.0),
        (1.0, 0.45),
        (0.5, 0.45**2 / (0.3**2 + 0.45**2 + 0.25**2)),
    ):
        controls = DenoisingControls(steps=3, temperature=temperature)
        ids, _ = sample(
            process,
            lambda ids: jnp.broadcast_to(table, (*ids.shape, V)),
            controls,
            100,
            shape=(5, 5),
        )
        assert np.mean(ids == 1) == pytest.approx(share, abs=0.03 if temperature else 0)


def test_a_variation_keeps_what_was_not_masked_and_certain_is_kept():
    process = Absorbing(V)
    codes = jnp.broadcast_to(jnp.array([0, 1, 2, 1], jnp.int32).reshape(2, 2), (40, 2, 2))
    ids, seen = sample(
        process,
        lambda ids: jnp.zeros((*ids.shape, V)),
        DenoisingControls(steps=2, first=0.3),
        40,
        codes,
        (2, 2),
    )
    assert np.mean(seen[0] == V) == pytest.approx(0.3, abs=0.12)
    np.testing.assert_array_equal(ids[seen[0] != V], np.asarray(codes)[seen[0] != V])
    ids, _ = sample(
        process,
        lambda ids: process.as_prediction(codes),
        DenoisingControls(steps=2),
        40,
        shape=(2, 2),
    )
    np.testing.assert_array_equal(ids, codes)


def test_controls_of_other_processes_are_refused():
    for options in (dict(sampler="heun"), dict(eta=0.5), dict(rescale=0.7)):
        with pytest.raises(UserError, match="means nothing to an absorbing process"):
            Absorbing(V).sampling_plan(DenoisingControls(**options))
    with pytest.raises(UserError, match="codec.vocabulary=1"):
        Absorbing(1)
