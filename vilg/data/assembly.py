"""Step number -> this process's rows of that step's batch.

Row r of global batch k has global position k * batch_size + r, and Grain's shuffle of the
position's epoch says which record stands there. Whole batches are made by one call, not single
records, because then another record can take a bad record's row."""

import functools
import logging
from dataclasses import dataclass
from typing import Any

import grain

from vilg.data.batch import BATCH, Need, entries
from vilg.data.example import Example, ExampleSettings
from vilg.data.knowledge import check_knowledge
from vilg.data.records import BadRecord, Lazy, Record, random_bits, validate
from vilg.data.sources import Source
from vilg.types import UserError

logger = logging.getLogger("vilg.data")
# the fields of a record that say what its picture shows
DESCRIPTION = ("captions", "words", "machine_captions", "machine_words")


@dataclass(frozen=True)
class Assembly(Lazy):
    """A picklable pure function of the step number, so that any thread or process may call it."""

    source: Source
    settings: ExampleSettings
    batch_size: int  # rows of the global batch
    first_row: int  # the first of them that this process makes
    rows: int  # how many of them this process makes
    shuffle: bool
    bad_record_limit: int
    inputs: tuple[str, ...] | None = None  # arrays of a batch; None: all that can be made
    count: int | None = None  # records in one pass over the source; None: endless
    shuffle_captions: bool = False

    @functools.cached_property
    def order(self) -> grain.MapDataset:
        """Position -> record index; the position's epoch (position // number of records) chooses
        the shuffle.

        Grain 0.2.18 takes 15 us an index from ten thousand records up, and 0.3 ms at 100 (measured
        on a loaded core)."""
        indices = grain.MapDataset.range(len(self.source))
        if not self.shuffle:
            return indices.repeat()
        # Grain takes a seed of 32 bits, and seed + 1 in the next epoch
        return indices.seed(random_bits(self.settings.seed) % 2**32).shuffle().repeat()

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of a batch's arrays and lists."""
        settings = self.settings
        there: dict[Need, bool] = {
            "text model": settings.text_model is not None,
            "knowledge": settings.knowledge is not None,
            "grid": settings.sizes.grid is not None,
            "one pass": self.count is not None,
        }
        return entries(self.inputs, [need for need, present in there.items() if present])

    def __call__(self, step: int) -> dict[str, Any]:
        """The rows of batch `step` by name, and under "bad" the bad records met: (id, reason) each.

        Where more records in a row are bad than the limit allows: only {"bad", "exhausted"}."""
        batch = {name: BATCH[name].empty(self.rows, self.settings.sizes) for name in self.names}
        bad: list[tuple[str, str]] = []
        for row in range(self.rows):
            example = self.example(step * self.batch_size + self.first_row + row, bad)
            if example is None:
                return {"bad": bad, "exhausted": True}
            for name, values in batch.items():
                value = BATCH[name].make(example)
                if isinstance(values, list):
                    values.append(value)
                else:
                    values[row] = value
        return {**batch, "bad": bad}

    def example(self, position: int, bad: list[tuple[str, str]]) -> Example | None:
        """The example at a global position; bad records met are appended to `bad`. None where more
        in a row are bad than the limit allows.
        """
        order: Any = self.order
        wanted, epoch = int(order[position]), position // len(self.source)
        found = self.good_record(wanted, bad)
        if found is None:
            return None
        record, index = found
        if self.shuffle_captions:
            record = self.with_other_captions(record, index, epoch, bad)
        in_pass = self.count is None or position < self.count
        return Example(self.settings, record, epoch, index, index == wanted and in_pass)

    def good_record(self, index: int, bad: list[tuple[str, str]]) -> tuple[Record, int] | None:
        """The record at `index` or the next good one after it, with its index; None where more in
        a row are bad than the limit allows.
        """
        size, languages = len(self.source), self.settings.languages
        for offset in range(min(size, self.bad_record_limit + 1)):
            used = (index + offset) % size
            try:
                record = validate(self.source[used])
                if self.settings.knowledge is not None:
                    check_knowledge(record)
                if not any(caption["language"] in languages for caption in record["captions"]):
                    raise BadRecord(record["id"], f"no caption in {' or '.join(languages)}")
                return record, used
            except BadRecord as error:
                bad.append((error.id, error.reason))
        return None

    def with_other_captions(
        self, record: Record, index: int, epoch: int, bad: list[tuple[str, str]]
    ) -> Record:
        """The record with the captions of another record, which is the same one whenever the same
        record is met in the same epoch.
        """
        size = len(self.source)
        offset = 1 + random_bits(self.settings.seed, epoch, index, 0) % max(1, size - 1)
        found = self.good_record((index + offset) % size, bad)
        other = record if found is None else found[0]
        picture = {name: value for name, value in record.items() if name not in DESCRIPTION}
        return picture | {name: other[name] for name in DESCRIPTION if name in other}


def note_bad(bad: dict[str, str], batch: dict[str, Any], limit: int) -> None:
    """Moves the bad records of a batch into `bad` (id -> reason) and logs the new ones.

    Errors: UserError where there are more than `limit` of them."""
    for id, reason in batch.pop("bad"):
        if id not in bad:
            bad[id] = reason
            logger.warning(
                "bad record %d of at most %d skipped: %s: %s", len(bad), limit, id, reason
            )
    if len(bad) > limit or batch.get("exhausted"):
        first = "; ".join(f"{id} ({reason})" for id, reason in list(bad.items())[:3])
        raise UserError(
            f"bad_record_limit={limit}: {len(bad)} records are bad, the first are {first}; repair"
            " the data or raise the limit"
        )
