"""Optimizers and schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vilg.training.optimizer import OPTIMIZERS, SCHEDULES, Optimizer, muon_dimensions
from vilg.types import UserError

AXES = {"matrix": ("embed", "mlp"), "table": ("vocab", "embed"), "bias": ("mlp",)}
PARAMS = {"matrix": jnp.ones((8, 16)), "table": jnp.ones((32, 8)), "bias": jnp.ones((16,))}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer_goes_downhill(kind):
    optimizer = Optimizer(kind=kind, learning_rate=0.05, warmup_steps=0, schedule="constant").build(
        100, AXES
    )
    params, state = PARAMS, optimizer.init(PARAMS)

    def loss(p):
        return sum(jnp.sum((x - 0.3) ** 2) for x in jax.tree.leaves(p))

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return jax.tree.map(jnp.add, params, updates), state

    first = loss(params)
    for _ in range(60):
        params, state = step(params, state)
    assert loss(params) < 0.2 * first


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_warms_up_to_the_peak_and_never_exceeds_it(name):
    rate = Optimizer(learning_rate=0.1, schedule=name, warmup_steps=10).rate(100)
    values = np.array([float(rate(s)) for s in range(100)])
    np.testing.assert_allclose(values[:10], np.linspace(0.01, 0.1, 10), rtol=1e-5)
    assert values.max() <= 0.1 + 1e-7
    if name in ("cosine", "linear", "trapezoid"):
        assert values[-1] < 0.005
    if name == "constant":
        assert (values[10:] == values[10]).all()


def test_muon_takes_matrices_by_their_axes_and_leaves_tables_to_adam():
    assert muon_dimensions(("vocab", "embed")) is None and muon_dimensions(("mlp",)) is None
    assert (
        muon_dimensions(("embed", "vocab")) is None and muon_dimensions(("vocab", "code")) is None
    )
    d = muon_dimensions(("code", "mlp"))
    assert (d.reduction_axis, d.output_axis) == ((0,), (1,))
    d = muon_dimensions(("layers", "embed", None, "heads", "head_dim"))
    assert (d.reduction_axis, d.output_axis) == ((1,), (3, 4))
    d = muon_dimensions(("heads", "head_dim", "embed"))
    assert (d.reduction_axis, d.output_axis) == ((0, 1), (2,))
    d = muon_dimensions(("rows", "columns", "channels_in", "channels_out"))
    assert (d.reduction_axis, d.output_axis) == ((0, 1, 2), (3,))


def test_muon_updates_have_the_singular_values_of_an_orthogonal_matrix():
    optimizer = Optimizer(
        kind="muon", learning_rate=1.0, warmup_steps=0, schedule="constant", clip=0.0
    ).build(10, AXES)
    grads = {
        **jax.tree.map(jnp.zeros_like, PARAMS),
        "matrix": jax.random.normal(jax.random.key(0), (8, 16)),
    }
    updates, _ = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
    singular = np.linalg.svd(updates["matrix"], compute_uv=False)
    assert singular.max() / singular.min() < 2.5
    assert float(jnp.sqrt(jnp.mean(updates["matrix"] ** 2))) == pytest.approx(0.2, rel=0.3)


def test_the_discriminator_has_its_own_optimizer():
    labels = {"matrix": "generator", "table": "generator", "bias": "discriminator"}
    for kind in OPTIMIZERS:
        optimizer = Optimizer(
            kind=kind,
            learning_rate=0.1,
            discriminator_rate=0.001,
            warmup_steps=0,
            schedule="constant",
        ).build(10, AXES, labels)
        updates, _ = optimizer.update(
            jax.tree.map(jnp.ones_like, PARAMS), optimizer.init(PARAMS), PARAMS
        )
        np.testing.assert_allclose(updates["bias"], -0.001, rtol=1e-3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "adam"), ("schedule", "cosin"), ("b2", 1.0), ("learning_rate", 0.0)],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(UserError, match=field):
        Optimizer(**{field: value})
