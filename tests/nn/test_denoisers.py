"""What both denoisers have in common."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vilg.nn.denoisers import for_sampling
from vilg.nn.dit import DiTConfig
from vilg.nn.unet import UNetConfig
from vilg.parallel.axes import unbox

HALF = {
    "unet": UNetConfig(
        channels=16,
        multipliers=(1,),
        blocks=1,
        attention=(1,),
        head_width=8,
        groups=8,
        dtype="bfloat16",
    ),
    "dit": DiTConfig(
        width=32, layers=2, heads=2, qk_norm=True, rotary_base=100.0, dtype="bfloat16"
    ),
}


@pytest.mark.parametrize("name", HALF)
def test_parameters_for_sampling_give_the_same_numbers(name):
    config = HALF[name]
    module = config.module(4, (4, 4), "prob")
    keys = jax.random.split(jax.random.key(0), 4)
    given = (
        jax.random.normal(keys[0], (2, 4, 4, 4)),
        jnp.array([3.0, 700.0]),
        jax.random.normal(keys[1], (2, 5, 24)),
        jnp.ones((2, 24)),
    )
    params = unbox(jax.jit(module.init)(keys[2], *given))["params"]
    params = jax.tree.map(
        lambda x: x + 0.05 * jax.random.normal(keys[3], x.shape), params
    )  # no zeros that hide what comes before them
    halves = for_sampling(params, config.dtype)
    sizes = {
        str(x.dtype): sum(y.size for y in jax.tree.leaves(halves) if y.dtype == x.dtype)
        for x in jax.tree.leaves(halves)
    }
    assert sizes["bfloat16"] > 0.5 * sum(sizes.values()), sizes
    run = jax.jit(lambda p: module.apply({"params": p}, *given))
    assert np.array_equal(run(params), run(halves)) and np.abs(run(params)).max() > 0


def test_parameters_of_float32_are_left_as_they_are():
    params = {"conv_in": {"kernel": jnp.full((3, 3, 4, 8), 1 / 3)}}
    assert for_sampling(params, "float32")["conv_in"]["kernel"].dtype == jnp.float32
