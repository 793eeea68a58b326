"""Annotations that are written into a data set once: words with their parts of speech, and boxes
and captions of other models, merged by id (annotation_files.py).

Existing files are never overwritten, and the result appears whole or not at all."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vilg.config import lookup
from vilg.data.annotation_files import (
    ANNOTATIONS,
    Place,
    files,
    ids,
    mistake,
    read_merged,
    unknown_id,
)
from vilg.data.convert import WRITERS, good_records
from vilg.data.knowledge import machine_captions
from vilg.data.records import Record
from vilg.data.replace import new_file, replacing
from vilg.data.sources import Source
from vilg.data.tagging import words_of
from vilg.types import UserError

REPORT_SECONDS = 10.0  # between lines about progress


def annotate(
    source: Source,
    out: str | os.PathLike[str],
    merge: Sequence[str] = (),
    kind: str = "folder",
    bad_record_limit: int = 100,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Writes every good record of a source with its annotations to the new directory `out` as
    `kind`. Where `out` ends in .jsonl, writes only the annotations by id, which can be merged
    again. Returns counts.

    Errors: UserError for a line that cannot be merged (with file, line, field and value), for an
    existing `out`, and for too many bad records."""
    as_lines = str(out).endswith(".jsonl")
    writer = AnnotationsWriter if as_lines else lookup(WRITERS, kind, "to")
    if as_lines and Path(out).exists():
        raise UserError(f"out={str(out)!r}: exists already; remove it or name another file")
    known = ids(source)
    places, annotations = read_merged(merge, known, dict(files(source)))
    merged = set()
    bad: dict[str, str] = {}
    totals = dict.fromkeys(("captions_tagged", "records_merged"), 0)
    start = last_report = time.monotonic()
    with new_file(Path(out)) if as_lines else replacing(out) as path, writer(path) as target:
        for record in good_records(source, bad, bad_record_limit):
            if record["id"] in annotations:
                merged.add(record["id"])
                record = combined(record, annotations[record["id"]], places[record["id"]])
                totals["records_merged"] += 1
            record, tagged = with_words(record)
            totals["captions_tagged"] += tagged
            target.write(record)
            if time.monotonic() - last_report > REPORT_SECONDS:
                last_report = time.monotonic()
                seconds = last_report - start
                log(f"{target.count:,} of {len(source):,} records annotated in {seconds:.0f} s")
        unknown = [id for id in annotations if id not in merged and id not in (known or bad)]
        if unknown:
            raise unknown_id(places[unknown[0]], unknown[0])
        if not target.count:
            raise UserError(
                f"data annotate: the source has no good record ({len(bad)} bad); check its path and"
                " split"
            )
    return {"records": target.count, **totals, "bad": bad}


def with_words(record: Record) -> tuple[Record, int]:
    """The record with the words of every caption, and the number of captions that were tagged for
    it. Words that the record has already stay.
    """
    count = 0
    record = dict(record)
    for name, items in (("words", record["captions"]), ("machine_words", machine_captions(record))):
        column = record.get(name) or []
        column = list(column) if len(column) == len(items) else [[]] * len(items)
        missing = [k for k, words in enumerate(column) if not words]
        for k in missing:
            column[k] = words_of(items[k]["text"], items[k]["language"])
        count += len(missing)
        if column:
            record[name] = column
    return record, count


def combined(record: Record, merged: Mapping[str, Any], place: Place) -> Record:
    """The record with merged annotations: new boxes and machine captions are added to the record's,
    words replace the record's.
    """
    record = {
        **record,
        **{name: merged[name] for name in ("words", "machine_words") if name in merged},
    }
    for name, before in (
        ("boxes", list(record.get("boxes") or ())),
        ("machine_captions", machine_captions(record)),
    ):
        added = [
            item
            for k, item in enumerate(merged.get(name, ()))
            if item not in before and item not in merged[name][:k]
        ]
        if before or added:
            record[name] = before + added
    for name, items in (
        ("words", record["captions"]),
        ("machine_words", record.get("machine_captions", ())),
    ):
        if name in merged and len(merged[name]) != len(items):
            raise mistake(
                place,
                name,
                merged[name],
                f"has {len(merged[name])} lists of words for {len(items)} captions; give one each",
            )
    return record


class AnnotationsWriter:
    """A context manager that writes a line for each record, with its id and its annotations."""

    def __init__(self, path: Path):
        self.path, self.count = path, 0

    def __enter__(self) -> "AnnotationsWriter":
        self.file = open(self.path, "w", encoding="utf-8")
        return self

    def write(self, record: Record) -> None:
        """Adds one record's line."""
        line = {
            "id": record["id"],
            **{name: record[name] for name in ANNOTATIONS if record.get(name)},
        }
        self.file.write(
            json.dumps(line, ensure_ascii=False, default=lambda value: value.tolist()) + "\n"
        )
        self.count += 1

    def __exit__(self, *error: object) -> None:
        self.file.close()
