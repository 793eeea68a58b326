"""What the contracts of generators and rankers share: a tiny model of every entry, and batches."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vilg.config import build
from vilg.generators import GENERATORS, RANKERS
from vilg.parallel.axes import AXES, is_box, unbox
from vilg.types import END, PAD, START, Trainable

# What an experiment fills in, where a model has the field.
GIVEN = dict(
    image_vocabulary=16,
    grid=(4, 4),
    code_width=3,
    latent_channels=3,
    text_vocabulary=32,
    text_length=7,
)
# Fields that make a model quick to compile; an entry without a line here has its defaults.
QUICK: dict[str, dict[str, Any]] = {
    "autoregressive": dict(width=16, layers=1, heads=2, scan=False),
    "diffusion": dict(
        denoiser=dict(name="dit", width=16, layers=1, heads=2, scan=False),
        text=dict(width=16, layers=1, heads=2, scan=False),
    ),
    "dual_encoder": dict(
        image=dict(width=16, layers=1, heads=2),
        text=dict(width=16, layers=1, heads=2),
        projection=8,
    ),
}


@functools.cache
def model_of(name: str) -> Any:
    """The tiny model of an entry."""
    kind = {**GENERATORS, **RANKERS}[name]
    fields = {f.name for f in dataclasses.fields(kind)}
    given = {k: v for k, v in GIVEN.items() if k in fields}
    return build(kind, {"name": name, **QUICK.get(name, {})}, "generator", **given)


@functools.cache
def boxed_params(name: str) -> Any:
    """Its initial parameters, boxed."""
    return jax.jit(model_of(name).init)(jax.random.key(0))


def texts(b: int) -> np.ndarray:
    """Prompts [b, m] of different lengths, in both languages."""
    m = GIVEN["text_length"]
    text = np.random.default_rng(0).integers(5, GIVEN["text_vocabulary"], (b, m)).astype(np.int32)
    for i, row in enumerate(text):
        end = 3 + i % (m - 3)
        row[0], row[end], row[end + 1 :] = START["zh" if i % 2 else "en"], END, PAD
    return text


def codes(model: Any, b: int) -> jax.Array:
    """Random codes of what the model draws or reads."""
    key = jax.random.key(5)
    if model.space == "ids":
        return jax.random.randint(key, (b, *GIVEN["grid"]), 0, GIVEN["image_vocabulary"])
    return jax.random.normal(key, (b, *GIVEN["grid"], GIVEN["latent_channels"]))


def batch_of(model: Any) -> dict[str, Any]:
    """Twice the rows that a microbatch must have, at least four."""
    b = max(4, 2 * model.batch_multiple)
    return {"text": texts(b), "codes": codes(model, b)}


def check_trainable(name: str) -> None:
    """Boxed parameters with known axes; a loss that is a finite float32 scalar with metrics;
    gradients that are finite and not all zero; the same numbers from the same key.
    """
    model, boxed = model_of(name), boxed_params(name)
    assert isinstance(model, Trainable) and model.batch_multiple >= 1
    for box in jax.tree.leaves(boxed, is_leaf=is_box):
        assert is_box(box) and len(box.names) == box.value.ndim, box
        assert set(box.names) <= {*AXES, None}, box.names
        assert bool(jnp.isfinite(box.value).all())
    batch, key, step = batch_of(model), jax.random.key(1), jnp.int32(3)
    losses = jax.jit(jax.value_and_grad(model.loss, has_aux=True))
    (loss, metrics), gradients = losses(unbox(boxed), batch, key, step)
    for label, value in {"loss": loss, **scalars(metrics)}.items():
        assert value.shape == () and value.dtype == jnp.float32, label
        assert bool(jnp.isfinite(value)), label
    norms = [float(jnp.linalg.norm(g.ravel())) for g in jax.tree.leaves(gradients)]
    assert np.isfinite(norms).all() and max(norms) > 0
    (again, _), _ = losses(unbox(boxed), batch, key, step)
    assert loss == again


def scalars(metrics: Mapping[str, Any]) -> dict[str, jax.Array]:
    """What is logged: all metrics but what maintenance reads."""
    return {k: v for k, v in metrics.items() if k != "observed"}
