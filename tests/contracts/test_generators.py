"""What every generator of the table promises: an entry is tested without being named here."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.contracts.models import GIVEN, boxed_params, check_trainable, model_of, texts
from vilg.codecs.spaces import SPACES
from vilg.generators import GENERATORS
from vilg.parallel.axes import unbox
from vilg.types import Generator, UserError

ROWS = 4


@functools.cache
def sampler(name: str) -> Any:
    """A compiled (params, text, keys) -> codes by the quickest controls of the model."""
    model = model_of(name)
    controls = model.controls({"steps": 2} if "steps" in options(model) else {})
    return jax.jit(lambda p, t, k: model.sample(p, t, k, controls))


def sampled(name: str, rows: list[int]) -> Any:
    """Codes of some of the prompts, each with a key of its own."""
    keys, chosen = jax.random.split(jax.random.key(2), 2 * ROWS), jnp.asarray(rows)
    text = jnp.asarray(texts(2 * ROWS))[chosen]
    return sampler(name)(unbox(boxed_params(name)), text, keys[chosen])


def options(model: Any) -> dict[str, Any]:
    """The sampling options of a model and their defaults."""
    return dataclasses.asdict(model.controls({}))


@pytest.mark.parametrize("name", GENERATORS)
def test_is_a_frozen_generator_of_a_known_space(name):
    model = model_of(name)
    assert isinstance(model, Generator) and model.__dataclass_params__.frozen
    assert model.space in SPACES


@pytest.mark.parametrize("name", GENERATORS)
def test_learns(name):
    check_trainable(name)


@pytest.mark.parametrize("name", GENERATORS)
def test_samples_are_codes_in_range(name):
    made, space = sampled(name, [0, 1, 2, 3]), model_of(name).space
    if space == "ids":
        assert made.shape == (ROWS, *GIVEN["grid"]) and made.dtype == jnp.int32
        assert 0 <= made.min() and made.max() < GIVEN["image_vocabulary"]
    else:
        assert made.shape == (ROWS, *GIVEN["grid"], GIVEN["latent_channels"])
        assert bool(jnp.isfinite(made).all())
    assert any((made[0] != row).any() for row in made[1:]), "all rows are the same picture"


@pytest.mark.parametrize("name", GENERATORS)
def test_a_row_does_not_depend_on_its_batch_mates(name):
    here, among_others = sampled(name, [0, 1, 2, 3]), sampled(name, [2, 5, 6, 7])
    np.testing.assert_allclose(here[2], among_others[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", GENERATORS)
def test_sampling_options_are_known_by_name_and_reach_the_controls(name):
    model = model_of(name)
    with pytest.raises(UserError, match=r"stepz=3.*has no such option"):
        model.controls({"stepz": 3})
    for option, value in options(model).items():
        if isinstance(value, float):
            changed = value / 2 or 0.25
            try:
                controls = model.controls({option: changed})
            except UserError as error:  # refused by name, not ignored
                assert str(error).startswith(f"{option}={changed}")
            else:
                assert getattr(controls, option) == changed
