"""Batches from a source: deterministic, the same whatever the number of hosts, resumable at any
step, and hard to crash.

Row r of global batch k is global position k * batch_size + r; a position names a record through
Grain's shuffle of its epoch, and everything random about it (language, wording, crop) is drawn from
(seed, epoch, record index). Grain maps whole batches, not records, because then a bad record can be
replaced inside its row. Pixels stay uint8; casting and sharding are the training's."""

import dataclasses
import functools
import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from absl import flags

from vilg.config import require
from vilg.data.knowledge import Knowledge, check_knowledge
from vilg.data.records import LANGUAGES, BadRecord, Lazy, Record, draw, fit, square, validate
from vilg.data.sources import fingerprint
from vilg.data.text import TextModel
from vilg.types import UserError

logger = logging.getLogger("vilg.data")
HOST_ONLY = (
    "ids",
    "language",
    "captions",
    "records",
)  # lists of Python objects; all else in a batch is a numpy array
STEPS = 2**40


@dataclass(frozen=True)
class Loader:
    """How records become batches. The fields are the config; what a model fixes (sizes, text model)
    is given to the methods.
    """

    seed: int = 0
    shuffle: bool = True
    languages: tuple[str, ...] = LANGUAGES
    random_crop: bool = False
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
        source: Any,
        text_model: TextModel | None,
        *,
        image_size: int,
        text_length: int = 0,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
        knowledge: Knowledge | None = None,
        grid: tuple[int, int] | None = None,
    ) -> "Stream":
        """An endless, resumable iterator over this process's rows of the global batches.

        A batch has "image" uint8 [b, image_size, image_size, 3], with a text model "text" int32 [b,
        text_length] and "truncated" bool [b], and the lists "ids", "language", "captions"
        (HOST_ONLY). With knowledge and a text model it also has "key" bool [b, text_length], with
        knowledge and the grid of codes "region" bool [b, y, x]. Errors: UserError if batch_size
        does not divide, or the text model lacks the special tokens that knowledge asks for."""
        assembly = self._assembly(
            source, text_model, image_size, text_length, batch_size, process_index, process_count
        )
        if knowledge is not None:
            knowledge.check_text_model(text_model)
            assembly = dataclasses.replace(
                assembly, knowledge=knowledge, grid=None if grid is None else tuple(grid)
            )
        return Stream(self, assembly, process_count)

    def once(
        self,
        source: Any,
        text_model: TextModel | None,
        *,
        image_size: int,
        text_length: int = 0,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
        limit: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """One pass over the source (or its first `limit` records) in its own order, in batches of
        one size, never with knowledge.

        As `stream`, and "valid" bool [b], False in rows that only fill up (a bad record's row; past
        the end), and "records", the whole records without their images."""
        count = len(source) if limit is None else min(limit, len(source))
        assembly = self._assembly(
            source, text_model, image_size, text_length, batch_size, process_index, process_count
        )
        assembly = dataclasses.replace(assembly, shuffle=False, shuffle_captions=False, count=count)
        bad: dict[str, str] = {}
        for step in range(-(-count // batch_size)):
            batch = assembly(step)
            note_bad(bad, batch, self.bad_record_limit)
            yield batch

    def _assembly(
        self, source, text_model, image_size, text_length, batch_size, process_index, process_count
    ) -> "Assembly":
        require(batch_size >= 1, "batch_size", batch_size, "give at least 1")
        divides = batch_size % process_count == 0
        require(
            divides,
            "batch_size",
            batch_size,
            f"must be a multiple of the {process_count} processes",
        )
        require(
            0 <= process_index < process_count,
            "process_index",
            process_index,
            f"must be below {process_count}",
        )
        require(
            text_model is None or text_length >= 3,
            "text_length",
            text_length,
            "give at least 3 (start, a piece, end)",
        )
        if len(source) == 0:
            raise UserError(f"data source {source}: it has no records; check its path and split")
        rows = batch_size // process_count
        return Assembly(
            source=source,
            text_model=text_model,
            image_size=image_size,
            text_length=text_length,
            batch_size=batch_size,
            first=process_index * rows,
            rows=rows,
            seed=self.seed,
            shuffle=self.shuffle,
            languages=tuple(self.languages),
            random_crop=self.random_crop,
            bad_record_limit=self.bad_record_limit,
            count=None,
            shuffle_captions=self.shuffle_captions,
        )


@dataclass(frozen=True)
class Assembly(Lazy):
    """Step -> this process's rows of that step's batch; a picklable pure function, so any thread or
    process may run it.
    """

    source: Any
    text_model: TextModel | None
    image_size: int
    text_length: int
    batch_size: int
    first: int
    rows: int
    seed: int
    shuffle: bool
    languages: tuple[str, ...]
    random_crop: bool
    bad_record_limit: int
    count: int | None  # of records in one pass; None: endless
    knowledge: Knowledge | None = None
    grid: tuple[int, int] | None = None
    shuffle_captions: bool = False

    @functools.cached_property
    def order(self) -> grain.MapDataset:
        """Position -> record index; the position's epoch (position // len) picks the shuffle.

        Grain 0.2.18 takes 15 us an index from ten thousand records up, and 0.3 ms at 100 (measured
        on a loaded core)."""
        indices = grain.MapDataset.range(len(self.source))
        if not self.shuffle:
            return indices.repeat()
        return (
            indices.seed(draw(self.seed) % 2**32).shuffle().repeat()
        )  # Grain takes 32 bits, and seed + 1 as the next epoch

    def __call__(self, step: int) -> dict[str, Any]:
        order: Any = self.order
        epoch_length, text_model = len(self.source), self.text_model
        batch: dict[str, Any] = {
            "image": np.empty((self.rows, self.image_size, self.image_size, 3), np.uint8),
            "bad": [],
        }
        batch |= {"ids": [], "language": [], "captions": []}
        if text_model is not None:
            batch["text"] = np.empty((self.rows, self.text_length), np.int32)
            batch["truncated"] = np.zeros(self.rows, np.bool_)
        if self.count is not None:
            batch |= {"valid": np.zeros(self.rows, np.bool_), "records": []}
        if self.knowledge is not None:
            batch |= (
                {"key": np.zeros((self.rows, self.text_length), np.bool_)}
                if text_model is not None
                else {}
            )
            batch |= (
                {"region": np.zeros((self.rows, *self.grid), np.bool_)}
                if self.grid is not None
                else {}
            )
        for row in range(self.rows):
            position = step * self.batch_size + self.first + row
            index = int(order[position])
            found = self.good(index, batch["bad"])
            if found is None:
                return {"bad": batch["bad"], "exhausted": True}
            record, used = found
            if self.shuffle_captions:
                record = self.misled(record, used, position // epoch_length, batch["bad"])
            key = draw(self.seed, position // epoch_length, used)
            batch["image"][row] = fit(
                record["image"], self.image_size, key >> 24 if self.random_crop else None
            )
            chosen = self.choose(record, key)
            if self.knowledge is not None:
                self.inform(batch, row, record, chosen, key, position // epoch_length, used)
                continue
            batch["ids"].append(record["id"])
            batch["language"].append(chosen["language"])
            batch["captions"].append(chosen["text"])
            if text_model is not None:
                batch["text"][row], batch["truncated"][row] = text_model.encode(
                    chosen["text"], chosen["language"], self.text_length
                )
            if self.count is not None:
                batch["valid"][row] = used == index and position < self.count
                batch["records"].append(
                    {name: value for name, value in record.items() if name != "image"}
                )
        return batch

    def inform(
        self,
        batch: dict[str, Any],
        row: int,
        record: Record,
        chosen: dict[str, str],
        key: int,
        *place: int,
    ) -> None:
        """Fills all of a row but its image as knowledge has it; `place` is (epoch, record
        index).
        """
        knowledge: Any = self.knowledge
        height, width = record["image"].shape[:2]
        crop = square(height, width, key >> 24 if self.random_crop else None)
        objects = knowledge.salient(record, crop)
        prompt = knowledge.completed(
            knowledge.prompt(record, chosen, self.languages, self.seed, *place),
            objects,
            self.seed,
            *place,
        )
        batch["ids"].append(record["id"])
        batch["language"].append(prompt.language)
        batch["captions"].append(prompt.text)
        if self.text_model is not None:
            batch["text"][row], batch["truncated"][row], batch["key"][row] = knowledge.encode(
                self.text_model, prompt, self.text_length, self.seed, *place
            )
        if self.grid is not None:
            batch["region"][row] = knowledge.region(objects, self.grid, self.seed, *place)

    def good(self, index: int, bad: list[tuple[str, str]]) -> tuple[Record, int] | None:
        """The record at `index` or the next good one after it, with its index; None when more than
        the limit in a row are bad.
        """
        size = len(self.source)
        for offset in range(min(size, self.bad_record_limit + 1)):
            used = (index + offset) % size
            try:
                record = validate(self.source[used])
                if self.knowledge is not None:
                    check_knowledge(record)
                if not any(caption["language"] in self.languages for caption in record["captions"]):
                    raise BadRecord(record["id"], f"no caption in {' or '.join(self.languages)}")
                return record, used
            except BadRecord as error:
                bad.append((error.id, error.reason))
        return None

    def misled(self, record: Record, index: int, epoch: int, bad: list[tuple[str, str]]) -> Record:
        """The record with what is said of another one, the same one whenever it is asked."""
        size, said = len(self.source), ("captions", "words", "machine_captions", "machine_words")
        found = self.good(
            (index + 1 + draw(self.seed, epoch, index, 0) % max(1, size - 1)) % size, bad
        )
        other = record if found is None else found[0]
        return {k: v for k, v in record.items() if k not in said} | {
            k: other[k] for k in said if k in other
        }

    def choose(self, record: Record, key: int) -> dict[str, str]:
        """A caption: first the language, uniformly among those that the record has, then the
        wording.
        """
        by_language: dict[str, list[dict[str, str]]] = {}
        for caption in record["captions"]:
            if caption["language"] in self.languages:
                by_language.setdefault(caption["language"], []).append(caption)
        present = sorted(by_language)
        wordings = by_language[present[(key & 0xFFF) % len(present)]]
        return wordings[(key >> 12 & 0xFFF) % len(wordings)]


class Stream:
    """The endless iterator of Loader.stream. Its position is one number, `step`: how many batches
    were taken.
    """

    def __init__(self, loader: Loader, assembly: Assembly, process_count: int):
        self.loader, self.assembly, self.process_count = loader, assembly, process_count
        self.step = 0
        self.bad: dict[str, str] = {}  # id -> reason, of every bad record met
        self._batches: Any = None

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> dict[str, Any]:
        if self._batches is None:
            self._batches = self._open()
        batch = next(self._batches)
        # copied, because Grain's shared memory complains when it outlives the interpreter's modules
        if self.loader.workers:
            batch = {
                name: np.array(value) if isinstance(value, np.ndarray) else value
                for name, value in batch.items()
            }
        note_bad(self.bad, batch, self.loader.bad_record_limit)
        self.step += 1
        return batch

    def _open(self) -> Iterator[dict[str, Any]]:
        steps = grain.MapDataset.range(self.step, STEPS).map(self.assembly)
        if self.loader.workers:
            if (
                not flags.FLAGS.is_parsed()
            ):  # Grain's worker start reads absl flags, which only absl's own main parses
                flags.FLAGS.mark_as_parsed()
            eager = steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
            workers = grain.MultiprocessingOptions(
                num_workers=self.loader.workers, per_worker_buffer_size=self.loader.prefetch
            )
            return iter(eager.mp_prefetch(workers, end_with_parent))
        return iter(
            steps.to_iter_dataset(
                grain.ReadOptions(num_threads=1, prefetch_buffer_size=self.loader.prefetch)
            )
        )

    def close(self) -> None:
        """Stops making batches ahead; the next batch, if one is asked for, is still the right
        one.
        """
        if hasattr(self._batches, "close"):
            self._batches.close()
        self._batches = None

    def identity(self) -> dict[str, Any]:
        """What the order of the batches depends on; a checkpoint with another identity is
        refused.
        """
        rows = self.assembly
        return {
            "source": fingerprint(rows.source),
            "records": len(rows.source),
            "seed": rows.seed,
            "shuffle": rows.shuffle,
            "batch_size": rows.batch_size,
            "languages": list(rows.languages),
            "random_crop": rows.random_crop,
            "image_size": rows.image_size,
            "text_length": rows.text_length,
            "text_model": rows.text_model.sha256 if rows.text_model else None,
            **(
                {}
                if rows.knowledge is None
                else {
                    "knowledge": dataclasses.asdict(rows.knowledge),
                    "grid": rows.grid and list(rows.grid),
                }
            ),
            **({"shuffle_captions": True} if rows.shuffle_captions else {}),
        }

    def get_state(self) -> dict[str, Any]:
        """The position and the identity, as JSON."""
        return {
            "step": self.step,
            "process_count": self.process_count,
            "bad": dict(self.bad),
            **self.identity(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position that get_state gave; UserError naming the first thing that differs
        from this stream's identity.

        The number of processes may differ: the global order does not depend on it.
        """
        identity = self.identity()
        for name in dict.fromkeys((*identity, "knowledge", "grid")):
            mine = identity.get(name)
            if state.get(name) != mine:
                raise UserError(
                    f"data {name}={mine!r}: the checkpoint was written with {state.get(name)!r}; "
                    "continue with that, or start a new workdir"
                )
        self.close()
        self.step, self.bad = int(state["step"]), dict(state["bad"])


def end_with_parent(worker: int, workers: int) -> None:
    """In a process that makes batches: it ends when its parent does, also where that was killed;
    Grain's would wait for ever.
    """
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def note_bad(bad: dict[str, str], batch: dict[str, Any], limit: int) -> None:
    """Takes the bad records out of a batch into `bad`, logs the new ones, and raises UserError past
    the limit.
    """
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
