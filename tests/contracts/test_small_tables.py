"""Small tables of functions, most of them of vilg/nn, and the rule that every table of functions or
classes is iterated over by a test."""

import ast
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from vilg.data.scenes.render import INSIDE
from vilg.data.scenes.scene import SHAPES
from vilg.nn.clip import ACTIVATIONS
from vilg.nn.cross_attention import ATTEND, AttentionOptions, attend_jointly
from vilg.nn.dense import DTYPES, dense
from vilg.nn.unet_blocks import RESAMPLE


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_its_closed_form(name):
    x = np.linspace(-5, 5, 101, dtype=np.float32)
    closed = {"quick_gelu": x / (1 + np.exp(-1.702 * x)), "gelu": x * (1 + erf(x / 2**0.5)) / 2}
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), closed[name], atol=1e-6)


@pytest.mark.parametrize("name", RESAMPLE)
def test_resampling_keeps_the_mean_and_channels_and_changes_the_size(name):
    x = normal(2, 4, 6, 3)
    factor = {"none": 1, "down": 0.5, "up": 2}[name]
    y = np.asarray(RESAMPLE[name](jnp.asarray(x)))
    assert y.shape == (2, 4 * factor, 6 * factor, 3)
    np.testing.assert_allclose(y.mean((1, 2)), x.mean((1, 2)), atol=1e-6)
    # a picture of blocks of 2 x 2 equal pixels goes down and up again
    blocks = jnp.asarray(x).repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(RESAMPLE["up"](jnp.asarray(x)), blocks)
    np.testing.assert_allclose(RESAMPLE["down"](blocks), x, atol=1e-6)


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_is_of_that_name_and_layers_compute_in_it(name):
    assert jnp.dtype(DTYPES[name]).name == name
    layer = dense(4, ("embed", "mlp"), "layer", nn.initializers.ones_init(), DTYPES[name])
    x = jnp.ones((2, 3))
    params = layer.init(jax.random.key(0), x)
    assert layer.apply(params, x).dtype == DTYPES[name]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", ATTEND)
def test_weights_of_one_change_nothing_and_others_follow_their_formula(name):
    q, k, v = (normal(1, 2, n, 4, seed=s) for s, n in enumerate((3, 5, 5)))
    tk, tv = normal(1, 2, 6, 4, seed=8), normal(1, 2, 6, 4, seed=9)
    options = AttentionOptions(attend_mode=name)

    def attend(weights):
        arrays = [jnp.asarray(x) for x in (q, k, v, tk, tv)]
        return attend_jointly(arrays[0], tuple(arrays[1:3]), tuple(arrays[3:]), weights, options)

    np.testing.assert_array_equal(attend(jnp.ones((1, 6))), attend(None))
    weights = np.array([[1, 2, 0.5, 1, 3, 1]], np.float32)
    keys = np.concatenate([tk, k], 2)
    factor = np.concatenate([weights, np.ones((1, 5))], 1)[:, None, None]
    logits = q @ keys.transpose(0, 1, 3, 2) / 2
    logits = logits * factor if name == "logit" else logits
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    p = p * factor if name == "prob" else p
    expected = p @ np.concatenate([tv, v], 2)
    np.testing.assert_allclose(attend(jnp.asarray(weights)), expected, atol=1e-5)


@pytest.mark.parametrize("name", INSIDE)
def test_a_shape_fills_a_part_of_its_box_and_nothing_outside(name):
    u, v = np.meshgrid(*(np.linspace(-2, 2, 401),) * 2)
    inside = INSIDE[name](u, v)
    box = np.maximum(abs(u), abs(v)) <= 1
    assert not inside[~box].any() and 0.2 < inside[box].mean() <= 1
    assert name in SHAPES


def tables() -> dict[str, str]:
    """The names of all module-level tables of functions or classes, with their files."""
    found = {}
    for file in Path("vilg").rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            target = node.target if isinstance(node, ast.AnnAssign) else None
            if isinstance(node, ast.Assign):
                target = node.targets[0]
            value = getattr(node, "value", None)
            if not (isinstance(target, ast.Name) and isinstance(value, ast.Dict)):
                continue
            callables = all(
                isinstance(v, ast.Name | ast.Attribute | ast.Lambda) for v in value.values
            )
            if target.id.isupper() and not target.id.startswith("_") and callables:
                found[target.id] = str(file)
    return found


def test_every_table_of_functions_or_classes_is_in_a_test():
    texts = "\n".join(file.read_text() for file in Path("tests").rglob("*.py"))
    found = tables()
    assert {"GENERATORS", "EVALUATORS", "ACTIVATIONS", "DENOISERS", "EXTRACTORS"} <= set(found)
    untested = {n: f for n, f in found.items() if not re.search(rf"\b{n}\b", texts)}
    assert not untested, f"in no test: {untested}"
