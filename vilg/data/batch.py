"""The table of what a batch can hold: arrays for the devices, and lists of Python objects that stay
on the host.

A new input of a model is one line of BATCH: its name, how it is made of an example, its dtype and
the shape of one row. The loader fills batches from the table, and `batch_shapes` gives the shapes
that a program is compiled for."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

from vilg.config import lookup
from vilg.data.example import Example, Sizes
from vilg.types import UserError

Need = Literal["text model", "knowledge", "grid", "one pass"]


@dataclass(frozen=True)
class BatchEntry:
    """One array of a batch, or one list of a value a row."""

    make: Callable[[Example], Any]
    dtype: type[np.generic] | None = None  # None: a list
    shape: Callable[[Sizes], tuple[int, ...]] = lambda sizes: ()  # of one row
    needs: tuple[Need, ...] = ()  # a batch has the entry only where all of these are there

    def empty(self, rows: int, sizes: Sizes) -> Any:
        """An array whose rows are still to be filled, or an empty list."""
        return [] if self.dtype is None else np.empty((rows, *self.shape(sizes)), self.dtype)


def _image(sizes: Sizes) -> tuple[int, ...]:
    return sizes.image_size, sizes.image_size, 3


def _text(sizes: Sizes) -> tuple[int, ...]:
    return (sizes.text_length,)


def _grid(sizes: Sizes) -> tuple[int, ...]:
    return sizes.grid or ()


BATCH: dict[str, BatchEntry] = {
    # RGB pixels [b, H, W, 3]
    "image": BatchEntry(lambda e: e.image, np.uint8, _image),
    # ids [b, m] of the prompt, and whether pieces were cut off to fit [b]
    "text": BatchEntry(lambda e: e.encoded[0], np.int32, _text, ("text model",)),
    "truncated": BatchEntry(lambda e: e.encoded[1], np.bool_, needs=("text model",)),
    # True at the ids of key words [b, m], and at the codes of salient objects [b, y, x]
    "key": BatchEntry(lambda e: e.encoded[2], np.bool_, _text, ("knowledge", "text model")),
    "region": BatchEntry(lambda e: e.region, np.bool_, _grid, ("knowledge", "grid")),
    # False in rows that only fill a batch up [b]
    "valid": BatchEntry(lambda e: e.valid, np.bool_, needs=("one pass",)),
    "ids": BatchEntry(lambda e: e.record["id"]),
    "language": BatchEntry(lambda e: e.prompt.language),
    "captions": BatchEntry(lambda e: e.prompt.text),
    # whole records without their pictures
    "records": BatchEntry(
        lambda e: {name: value for name, value in e.record.items() if name != "image"},
        needs=("one pass",),
    ),
}
HOST_ONLY = tuple(name for name, entry in BATCH.items() if entry.dtype is None)


def entries(inputs: Sequence[str] | None, present: Collection[Need]) -> tuple[str, ...]:
    """The names of a batch's entries: every list, and the arrays that `inputs` names (None: all
    arrays), as far as what they need is present.

    An array that needs knowledge is left out where there is none, because knowledge is an option of
    the data. Errors: UserError for an unknown array, or one that lacks something else."""
    for name in inputs or ():
        missing = [need for need in lookup(BATCH, name, "inputs").needs if need not in present]
        if missing and "knowledge" not in missing:
            raise UserError(
                f"inputs={name!r}: a batch has it only with a {missing[0]}; give one, or leave the"
                " input out"
            )
    return tuple(
        name
        for name, entry in BATCH.items()
        if all(need in present for need in entry.needs)
        and (inputs is None or entry.dtype is None or name in inputs)
    )


def batch_shapes(
    inputs: Sequence[str], batch_size: int, sizes: Sizes, knowledge: bool = False
) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays of a training batch of `batch_size` rows, by name.

    `inputs` names the arrays that a model wants (its `inputs`); those of knowledge are there only
    where `knowledge` says that the data has it. Errors: as `entries`."""
    there: dict[Need, bool] = {
        "text model": sizes.text_length > 0,
        "grid": sizes.grid is not None,
        "knowledge": knowledge,
    }
    return {
        name: jax.ShapeDtypeStruct((batch_size, *BATCH[name].shape(sizes)), BATCH[name].dtype)
        for name in entries(inputs, [need for need, present in there.items() if present])
        if BATCH[name].dtype is not None
    }
