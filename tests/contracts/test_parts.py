"""What every denoiser, architecture of codecs and rematerialisation policy promises: an entry is
tested without being named here.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vilg.codecs import CODECS
from vilg.codecs.autoencoder import ARCHITECTURES
from vilg.config import build
from vilg.generators.autoregressive import Autoregressive
from vilg.nn.denoisers import DENOISERS
from vilg.nn.remat import REMAT
from vilg.parallel.axes import AXES, is_box, unbox

# Fields that make an entry quick to compile; one without a line here has its defaults.
QUICK: dict[str, dict[str, Any]] = {
    "dit": dict(width=16, layers=1, heads=2, scan=False, zero_gates=False),
    "unet": dict(
        channels=16,
        multipliers=(1,),
        blocks=1,
        attention=(1,),
        head_width=8,
        groups=8,
        scan=False,
    ),
    "convolutional": dict(channels=8, multipliers=(1, 2), blocks=1, attention_at=(), groups=4),
    "patch": dict(width=16, depth=1, channels=4),
}
GRID, ROWS, OUTPUTS = (4, 4), 4, 5


def section(name: str) -> dict[str, Any]:
    return {"name": name, **QUICK.get(name, {})}


def check_boxes(boxed: Any) -> None:
    """Every parameter has known logical axes."""
    for box in jax.tree.leaves(boxed, is_leaf=is_box):
        assert is_box(box) and set(box.names) <= {*AXES, None}, box


def random_params(boxed: Any) -> Any:
    """Parameters of the boxes' shapes, none of which is zero; nothing is compiled for them."""
    leaves, tree = jax.tree.flatten(unbox(boxed))
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(
        tree, [jnp.asarray(0.2 * rng.standard_normal(x.shape), x.dtype) for x in leaves]
    )


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoiser_answers_for_each_row_alone_and_listens_to_time_and_text(name):
    fields = {k: v for k, v in section(name).items() if k != "name"}
    module = DENOISERS[name](**fields).module(OUTPUTS, GRID, "prob")
    key = jax.random.split(jax.random.key(0), 4)
    noisy = jax.random.normal(key[0], (2 * ROWS, *GRID, 3))
    time = jax.random.uniform(key[1], (2 * ROWS,), maxval=1000.0)
    states = jax.random.normal(key[2], (2 * ROWS, 7, 16))
    pooled = jax.random.normal(key[3], (2 * ROWS, 16))
    arrays = (noisy, time, states, pooled)
    boxed = jax.eval_shape(module.init, key[0], *(x[:1] for x in arrays))
    check_boxes(boxed)
    call = jax.jit(lambda p, *x: module.apply(p, *x))
    params = random_params(boxed)
    here = call(params, *(x[:ROWS] for x in arrays))
    assert here.shape == (ROWS, *GRID, OUTPUTS) and here.dtype == jnp.float32
    others = jnp.asarray([2, 5, 6, 7])
    np.testing.assert_allclose(
        here[2], call(params, *(x[others] for x in arrays))[0], rtol=1e-3, atol=1e-4
    )
    for changed in (0, 1, 2):  # the codes, the time, the text
        inputs = [x[:ROWS] for x in arrays]
        inputs[changed] = inputs[changed] + 1
        assert float(jnp.abs(call(params, *inputs) - here).max()) > 1e-4, changed


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_a_codecs(name):
    fields = dict(image_size=8, latent_channels=4, architecture=section(name))
    codec = build(CODECS["kl"], {"name": "kl", **fields}, "codec")
    boxed = jax.eval_shape(codec.init, jax.random.key(0))
    check_boxes(boxed)
    params = random_params(boxed)
    images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3), minval=-1.0)

    @jax.jit
    @jax.grad
    def gradient(params):
        return jnp.mean(codec.from_latents(params, codec.latents(params, images)) ** 2)

    norms = [float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient(params))]
    assert np.isfinite(norms).all() and np.mean(np.asarray(norms) > 0) > 0.8
    assert codec.grid == (8 // codec.architecture.downsample,) * 2


@functools.cache
def gradients(remat: str) -> Any:
    model = Autoregressive(
        image_vocabulary=8,
        grid=(2, 2),
        text_vocabulary=8,
        text_length=4,
        width=8,
        layers=1,
        heads=2,
        scan=False,
        remat=remat,
    )
    params = random_params(jax.eval_shape(model.init, jax.random.key(0)))
    batch = {"text": jnp.full((2, 4), 5, jnp.int32), "codes": jnp.ones((2, 2, 2), jnp.int32)}
    loss = jax.jit(jax.grad(lambda p: model.loss(p, batch, jax.random.key(1), jnp.int32(0))[0]))
    return loss(params)


@pytest.mark.parametrize("remat", REMAT)
def test_what_is_computed_again_gives_the_same_gradients(remat):
    for one, other in zip(
        jax.tree.leaves(gradients("none")), jax.tree.leaves(gradients(remat)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
