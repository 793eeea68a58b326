"""Every process of the table keeps the protocol: an entry without an example here fails."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vilg.processes import PROCESSES, DenoisingControls, Process, build_process
from vilg.types import UserError

VOCABULARY, CHANNELS, GRID = 5, 3, (2, 3)


@pytest.fixture(params=sorted(PROCESSES))
def process(request) -> Process:
    return build_process({"name": request.param}, VOCABULARY)


def row_shape(process):
    return {"latents": (*GRID, CHANNELS), "ids": GRID}[process.space]


def codes_of(process, b):
    key = jax.random.key(7)
    if process.space == "ids":
        return jax.random.randint(key, (b, *GRID), 0, VOCABULARY)
    return jax.random.normal(key, (b, *GRID, CHANNELS))


def output_of(process, noisy, key=0):
    """A "denoiser": any function of a row that is not of its batch mates."""
    width = process.output_channels(CHANNELS, VOCABULARY)
    weights = jax.random.normal(jax.random.key(key), (*GRID, width))
    return jnp.tanh(weights + (noisy[..., None] if process.space == "ids" else noisy))


def sample(process, controls, keys, codes=None):
    plan = process.sampling_plan(controls)
    carry = process.start(keys, row_shape(process), plan, codes)
    for j, t in enumerate(plan.times):
        noisy = process.noisy(carry)
        prediction = process.clean(
            output_of(process, noisy), noisy, jnp.full(len(keys), t, jnp.float32)
        )
        after = process.advance(carry, prediction, plan.row(j), keys, j)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
            lambda x: (x.shape, x.dtype), carry
        )
        carry = after
    return process.result(carry)


def test_is_a_frozen_process(process):
    assert (
        isinstance(process, Process)
        and dataclasses.is_dataclass(process)
        and process.space in ("latents", "ids")
    )
    assert build_process(process, VOCABULARY) is process
    hash(process)


def test_time_zero_is_the_identity(process):
    codes = codes_of(process, 4)
    np.testing.assert_array_equal(process.corrupt(codes, jnp.zeros(4), jax.random.key(0)), codes)


def test_more_time_is_more_corruption(process):
    codes = codes_of(process, 200)
    changed = [
        np.mean(np.abs(process.corrupt(codes, jnp.full(200, t), jax.random.key(0)) - codes))
        for t in (0.1, 0.5, 1.0)
    ]
    assert changed == sorted(changed) and changed[0] < changed[1] < changed[2]


def test_loss_is_float32_at_each_position_with_gradients(process):
    codes, t = codes_of(process, 4), process.draw_times(jax.random.key(0), 4)
    noisy = process.corrupt(codes, t, jax.random.key(1))
    output = output_of(process, noisy).astype(jnp.bfloat16)
    loss, gradient = jax.value_and_grad(lambda o: process.loss(o, codes, noisy, t).sum())(output)
    assert process.loss(output, codes, noisy, t).dtype == jnp.float32 and process.loss(
        output, codes, noisy, t
    ).shape == (4, *GRID)
    error = process.error(output, codes, noisy, t)
    assert (
        error.dtype == jnp.float32
        and error.shape == (4, *GRID)
        and np.all(error >= 0)
        and np.any(error > 0)
    )
    assert (
        np.isfinite(loss)
        and loss > 0
        and np.isfinite(np.float32(gradient)).all()
        and np.any(np.float32(gradient) != 0)
    )


def test_guidance_one_is_the_conditional_bit_for_bit(process):
    noisy = codes_of(process, 3)
    c, u = output_of(process, noisy, 1), output_of(process, noisy, 2)
    for guidance in (1, 1.0, jnp.float32(1)):
        np.testing.assert_array_equal(process.guide(c, u, guidance, 0.0), c)
    guided = process.guide(c, u, 3.0, 0.0)
    assert guided.shape == c.shape and not np.allclose(guided, c)


def test_draws_lie_in_their_slice(process):
    for low, high in ((0.0, 1.0), (0.25, 0.5), (0.9, 1.0)):
        t = np.asarray(process.draw_times(jax.random.key(0), 128, low, high))
        assert t.shape == (128,) and np.all(t > low) and np.all(t <= np.float32(high))
    assert process.quantile(np.array([0.5])).dtype == np.float64


def test_the_plan_is_float64_and_its_times_fall(process):
    plan = process.sampling_plan(DenoisingControls(steps=7))
    assert (
        plan.times.dtype == np.float64
        and np.all(np.diff(plan.times) <= 0)
        and np.all((plan.times > 0) & (plan.times <= 1))
    )
    for values in plan.rows.values():
        assert values.dtype == np.float64 and len(values) == len(plan.times)
    narrow = process.sampling_plan(DenoisingControls(steps=5, first=0.6, last=0.2))
    assert narrow.times[0] == pytest.approx(0.6) and narrow.times[-1] > 0.2
    with pytest.raises(UserError, match="steps=0"):
        process.sampling_plan(DenoisingControls(steps=0))


def test_a_row_does_not_depend_on_its_batch_mates(process):
    keys = jax.random.split(jax.random.key(0), 3)
    controls = DenoisingControls(steps=3)
    whole = sample(process, controls, keys)
    assert whole.shape == (3, *row_shape(process)) and not np.array_equal(whole[0], whole[1])
    np.testing.assert_allclose(sample(process, controls, keys[1:2])[0], whole[1], atol=1e-6)


def test_a_variation_of_hardly_any_strength_is_the_codes(process):
    codes, keys = codes_of(process, 2), jax.random.split(jax.random.key(0), 2)
    controls = DenoisingControls(steps=1, first=0.001)
    carry = process.start(keys, row_shape(process), process.sampling_plan(controls), codes)
    np.testing.assert_allclose(process.noisy(carry), codes, atol=0.15)


def test_one_who_is_certain_is_taken_at_his_word(process):
    codes, keys = codes_of(process, 2), jax.random.split(jax.random.key(0), 2)
    plan = process.sampling_plan(DenoisingControls(steps=2))
    carry = process.start(keys, row_shape(process), plan)
    for j in range(len(plan.times)):
        carry = process.advance(carry, process.as_prediction(codes), plan.row(j), keys, j)
    np.testing.assert_array_equal(process.result(carry), codes)


def test_unknown_names_and_fields_are_one_sentence():
    with pytest.raises(
        UserError, match="generator.process.name='gausian': did you mean 'gaussian'"
    ):
        build_process({"name": "gausian"}, VOCABULARY)
    with pytest.raises(
        UserError, match="generator.process.scedule=.*did you mean generator.process.schedule"
    ):
        build_process({"name": "gaussian", "scedule": {}}, VOCABULARY)
