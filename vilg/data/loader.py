"""Batches of records: the `data.loader` section of a config, and the two ways to read a source,
endlessly (`stream`) and once (`once`).

Batches are deterministic, the same whatever the number of hosts, and resumable at any step. Bad
records are replaced, named and counted. Pixels stay uint8; casting and sharding are left to
training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vilg.config import require
from vilg.data.assembly import Assembly, note_bad
from vilg.data.example import ExampleSettings, Sizes
from vilg.data.knowledge import Knowledge
from vilg.data.records import LANGUAGES
from vilg.data.sources import Source
from vilg.data.stream import Stream
from vilg.data.text import TextModel
from vilg.types import UserError


@dataclass(frozen=True)
class Loader:
    """The fields are the config; what a model fixes (sizes, text model) is given to the methods."""

    seed: int = 0  # of the order of records, the choice of captions and the crops
    shuffle: bool = True  # records in another order in each epoch; else in their own
    languages: tuple[str, ...] = LANGUAGES  # languages of the captions that are trained on
    random_crop: bool = False  # crops at random places; else in the middle
    workers: int = 0  # processes that make batches; 0: one thread of this process
    prefetch: int = 4  # batches made ahead, for each worker
    bad_record_limit: int = 100  # distinct bad records that a run may meet
    # trains each picture with another record's captions: a control, from which no caption can be
    # learned
    shuffle_captions: bool = False

    def __post_init__(self):
        known = bool(self.languages) and set(self.languages) <= set(LANGUAGES)
        require(known, "languages", self.languages, f"give one or more of {', '.join(LANGUAGES)}")
        require(-(2**63) <= self.seed < 2**63, "seed", self.seed, "must fit 64 bits")
        require(self.prefetch >= 1, "prefetch", self.prefetch, "give at least 1 batch")
        require(self.workers <= 64, "workers", self.workers, "give at most 64 processes")

    def stream(
        self,
        source: Source,
        text_model: TextModel | None,
        *,
        image_size: int,
        text_length: int = 0,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
        knowledge: Knowledge | None = None,
        grid: tuple[int, int] | None = None,
        inputs: Sequence[str] | None = None,
    ) -> Stream:
        """An endless, resumable iterator over this process's rows of the global batches.

        A batch has the arrays of BATCH (vilg/data/batch.py) that `inputs` names, or without
        `inputs` all those that can be made: "image" uint8 [b, image_size, image_size, 3]; with a
        text model "text" int32 [b, text_length] and "truncated" bool [b]; with knowledge and a text
        model "key" bool [b, text_length]; with knowledge and the grid of codes "region" bool
        [b, y, x]. It has the lists "ids", "language" and "captions" in any case. Errors: UserError
        if the number of processes does not divide batch_size, if the text model lacks the special
        tokens that knowledge asks for, or if an input cannot be made."""
        if knowledge is not None:
            knowledge.check_text_model(text_model)
        sizes = Sizes(image_size, text_length, None if grid is None else (grid[0], grid[1]))
        rows, first_row = self._rows(source, batch_size, process_index, process_count)
        assembly = Assembly(
            source=source,
            settings=self._settings(sizes, text_model, knowledge),
            batch_size=batch_size,
            first_row=first_row,
            rows=rows,
            shuffle=self.shuffle,
            bad_record_limit=self.bad_record_limit,
            inputs=None if inputs is None else tuple(inputs),
            shuffle_captions=self.shuffle_captions,
        )
        _ = assembly.names  # an input that cannot be made is refused here
        return Stream(assembly, process_count, self.workers, self.prefetch)

    def once(
        self,
        source: Source,
        text_model: TextModel | None,
        *,
        image_size: int,
        text_length: int = 0,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
        limit: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """One pass over the source, or over its first `limit` records, in its own order, in batches
        of one size, without knowledge.

        A batch is as `stream` makes it without `inputs`, and has "valid" bool [b], False in rows
        that only fill the batch up (a bad record's row; past the end), and "records", the whole
        records without their images."""
        count = len(source) if limit is None else min(limit, len(source))
        rows, first_row = self._rows(source, batch_size, process_index, process_count)
        assembly = Assembly(
            source=source,
            settings=self._settings(Sizes(image_size, text_length), text_model),
            batch_size=batch_size,
            first_row=first_row,
            rows=rows,
            shuffle=False,
            bad_record_limit=self.bad_record_limit,
            count=count,
        )
        bad: dict[str, str] = {}
        for step in range(-(-count // batch_size)):
            batch = assembly(step)
            note_bad(bad, batch, self.bad_record_limit)
            yield batch

    def _settings(
        self, sizes: Sizes, text_model: TextModel | None, knowledge: Knowledge | None = None
    ) -> ExampleSettings:
        length = sizes.text_length
        enough = text_model is None or length >= 3
        require(enough, "text_length", length, "give at least 3 (start, a piece, end)")
        languages = tuple(self.languages)
        return ExampleSettings(sizes, text_model, self.seed, languages, self.random_crop, knowledge)

    def _rows(
        self, source: Source, batch_size: int, process_index: int, process_count: int
    ) -> tuple[int, int]:
        """The number of rows of a batch that this process makes, and the first of them."""
        require(batch_size >= 1, "batch_size", batch_size, "give at least 1")
        divides = batch_size % process_count == 0
        remedy = f"must be a multiple of the {process_count} processes"
        require(divides, "batch_size", batch_size, remedy)
        known = 0 <= process_index < process_count
        require(known, "process_index", process_index, f"must be below {process_count}")
        if len(source) == 0:
            raise UserError(f"data source {source}: it has no records; check its path and split")
        rows = batch_size // process_count
        return rows, process_index * rows
