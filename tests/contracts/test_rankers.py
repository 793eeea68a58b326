"""What every ranker of the table promises: an entry is tested without being named here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.contracts.models import boxed_params, check_trainable, codes, model_of, texts
from vilg.generators import GENERATORS, RANKERS
from vilg.parallel.axes import unbox
from vilg.types import Embedder, Generator, Ranker

ROWS = 4


@pytest.mark.parametrize("name", RANKERS)
def test_is_a_frozen_ranker_that_draws_nothing(name):
    model = model_of(name)
    assert isinstance(model, Ranker) and isinstance(model, Embedder)
    assert not isinstance(model, Generator) and name not in GENERATORS
    assert model.__dataclass_params__.frozen


@pytest.mark.parametrize("name", RANKERS)
def test_learns(name):
    check_trainable(name)


@pytest.mark.parametrize("name", RANKERS)
def test_features_have_unit_length_and_rows_their_own_scores(name):
    model, params = model_of(name), unbox(boxed_params(name))

    @jax.jit
    def answers(text, pictures):
        return (
            model.embed_images(params, pictures),
            model.embed_texts(params, text),
            model.agreement(params, text, pictures),
        )

    other = np.asarray([2, 5, 6, 7])
    more_text, more_pictures = texts(2 * ROWS), codes(model, 2 * ROWS)
    whole = answers(more_text[:ROWS], more_pictures[:ROWS])
    among_others = answers(more_text[other], more_pictures[other])
    for features in whole[:2]:
        assert features.shape[0] == ROWS and features.dtype == jnp.float32
        np.testing.assert_allclose(jnp.linalg.norm(features, axis=1), 1.0, rtol=1e-4)
    assert whole[0].shape == whole[1].shape and whole[2].shape == (ROWS,)
    for a, b in zip(whole, among_others, strict=True):
        np.testing.assert_allclose(a[2], b[0], rtol=1e-4, atol=1e-5)
    # the order of agreement among texts of one picture is that of the cosines
    images, features, agreement = answers(
        more_text[:ROWS], jnp.repeat(more_pictures[:1], ROWS, axis=0)
    )
    np.testing.assert_array_equal(
        np.argsort(agreement), np.argsort(jnp.sum(images * features, axis=1))
    )
