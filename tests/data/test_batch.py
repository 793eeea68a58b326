"""The contract of every entry of a batch: the loader makes what the table promises."""

import numpy as np
import pytest

from vilg.data.batch import BATCH, HOST_ONLY, batch_shapes
from vilg.data.example import Sizes
from vilg.data.knowledge import Knowledge
from vilg.data.loader import Loader
from vilg.data.scenes.source import Synthetic
from vilg.types import UserError

ROWS, SIZES = 6, Sizes(image_size=16, text_length=24, grid=(4, 3))
SOURCE = Synthetic(n=30, annotations=True)
KNOWLEDGE = Knowledge(tags=0.0)  # the text model has no special tokens


def training_batch(text_model, inputs=None, knowledge: Knowledge | None = KNOWLEDGE):
    return next(
        Loader().stream(
            SOURCE,
            text_model,
            image_size=SIZES.image_size,
            text_length=SIZES.text_length,
            grid=SIZES.grid,
            batch_size=ROWS,
            knowledge=knowledge,
            inputs=inputs,
        )
    )


@pytest.fixture(scope="module")
def batch(text_model):
    """Every entry of the table, from a training batch and a batch of one pass."""
    once = Loader().once(SOURCE, text_model, image_size=16, text_length=24, batch_size=ROWS)
    return {**next(once), **training_batch(text_model)}


@pytest.mark.parametrize("name", BATCH)
def test_an_entry_has_the_shape_and_the_dtype_that_the_table_promises(batch, name):
    entry, values = BATCH[name], batch[name]
    if entry.dtype is None:
        assert isinstance(values, list) and len(values) == ROWS
    else:
        assert values.dtype == entry.dtype and values.shape == (ROWS, *entry.shape(SIZES))


@pytest.mark.parametrize("name", BATCH)
def test_an_entry_is_there_only_with_what_it_needs(text_model, name):
    needs = BATCH[name].needs
    plain = training_batch(text_model, knowledge=None)
    assert (name in plain) == (set(needs) <= {"text model", "grid"})
    pixels = next(Loader().stream(SOURCE, None, image_size=16, batch_size=ROWS))
    assert (name in pixels) == (not needs)


@pytest.mark.parametrize("knowledge", [None, KNOWLEDGE], ids=["plain", "knowledge"])
@pytest.mark.parametrize(
    "inputs", [("image",), ("image", "text"), ("image", "text", "key", "region")]
)
def test_shapes_are_those_of_the_batches(text_model, inputs, knowledge):
    made = training_batch(text_model, inputs, knowledge)
    arrays = {name: (v.shape, v.dtype) for name, v in made.items() if name not in HOST_ONLY}
    shapes = batch_shapes(inputs, ROWS, SIZES, knowledge is not None)
    assert arrays == {name: (v.shape, v.dtype) for name, v in shapes.items()}
    marks = {"key", "region"} if knowledge else set()
    assert set(arrays) == set(inputs) & {"image", "text", *marks}
    every = training_batch(text_model, None, knowledge)
    for name, values in made.items():
        np.testing.assert_array_equal(values, every[name])


def test_an_input_that_cannot_be_made_is_refused_by_name(text_model):
    with pytest.raises(UserError, match="inputs='txt': did you mean 'text'"):
        training_batch(text_model, ("image", "txt"))
    for inputs, need in (("text", "text model"), ("valid", "one pass")):
        with pytest.raises(UserError, match=f"inputs='{inputs}': .* only with a {need}"):
            training_batch(None, ("image", inputs))
    with pytest.raises(UserError, match="inputs='text': .* only with a text model"):
        batch_shapes(("image", "text"), ROWS, Sizes(image_size=16))
