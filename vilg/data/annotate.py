"""Knowledge written into a data set once: words with their parts of speech, and boxes and captions
of other models merged by id.

A line of a merged .jsonl has `id`, or `image` as `vilg caption` writes it, and any of: `boxes`
(list of {"xyxy" in [0, 1], "label", "score"}, or of xyxy lists beside `labels` and `scores`),
`captions` or `machine_captions` (kept apart from people's captions), `words`, `machine_words`.
Nothing is written over, and the result appears whole or not at all."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from vilg.config import lookup, suggestion
from vilg.data.convert import WRITERS, good_records
from vilg.data.folder import Folder
from vilg.data.knowledge import check_knowledge, machine_captions
from vilg.data.records import BadRecord, Record, captions
from vilg.data.replace import new_file, replacing
from vilg.data.shards import HEAD, Shards
from vilg.data.tagging import words_of
from vilg.types import UserError

ANNOTATIONS = ("boxes", "machine_captions", "words", "machine_words")
EVERY = 10.0  # seconds between progress lines
Place = tuple[str, int]  # file and line


def annotate(
    source: Any,
    out: str | os.PathLike[str],
    merge: Sequence[str] = (),
    kind: str = "folder",
    bad_record_limit: int = 100,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Writes every good record of a source with its annotations: to the new directory `out` as
    `kind`, or, where `out` ends in .jsonl, only the annotations by id, which can be merged again.
    Returns counts.

    Errors: UserError for a line that cannot be merged, naming file, line, field and value; for an
    existing `out`; too many bad records."""
    as_lines = str(out).endswith(".jsonl")
    writer = AnnotationsWriter if as_lines else lookup(WRITERS, kind, "to")
    if as_lines and Path(out).exists():
        raise UserError(f"out={str(out)!r}: exists already; remove it or name another file")
    known = ids(source)
    places, found = read_merged(merge, known, dict(files(source)))
    met = set()
    bad: dict[str, str] = {}
    totals = dict.fromkeys(("captions_tagged", "records_merged"), 0)
    began = told = time.monotonic()
    with new_file(Path(out)) if as_lines else replacing(out) as target, writer(target) as written:
        for record in good_records(source, bad, bad_record_limit):
            if record["id"] in found:
                met.add(record["id"])
                record = combined(record, found[record["id"]], places[record["id"]])
                totals["records_merged"] += 1
            record, tagged = with_words(record)
            totals["captions_tagged"] += tagged
            written.write(record)
            if time.monotonic() - told > EVERY:
                told = time.monotonic()
                log(
                    f"{written.count:,} of {len(source):,} records annotated in"
                    f" {told - began:.0f} s"
                )
        unknown = [id for id in found if id not in met and id not in (known or bad)]
        if unknown:
            raise unknown_id(places[unknown[0]], unknown[0])
        if not written.count:
            raise UserError(
                f"data annotate: the source has no good record ({len(bad)} bad); check its path and"
                " split"
            )
    return {"records": written.count, **totals, "bad": bad}


def with_words(record: Record) -> tuple[Record, int]:
    """(The record with the words of every caption, how many captions were tagged); words that are
    there stay.
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
    """The record and what was merged: boxes and machine captions are added where they are new,
    words replace.
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


def read_merged(
    merge: Sequence[str], known: set[str] | None, images: Mapping[str, str]
) -> tuple[dict[str, Place], dict[str, Any]]:
    """(Where each id was first named, its annotations) of .jsonl files. `known` are the source's
    ids, where they are cheap to have, and `images` its pictures' paths with their ids."""
    places: dict[str, Place] = {}
    found: dict[str, dict[str, Any]] = {}
    for file in merge:
        if not Path(file).is_file():
            raise UserError(
                f"merge={file!r}: there is no such file; give a .jsonl of boxes or captions"
            )
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                place = (file, number)
                id, fields = read_line(line.removeprefix(b"\xef\xbb\xbf"), place, images)
                if known is not None and id not in known:
                    raise unknown_id(place, id)
                if id not in places or {"words", "machine_words"} & set(
                    fields
                ):  # whose number is compared with the captions'
                    places[id] = place
                mine = found.setdefault(id, {})
                for name, value in fields.items():
                    mine[name] = (
                        [*mine[name], *value]
                        if name in ("boxes", "machine_captions") and name in mine
                        else value
                    )
    return places, found


def read_line(line: bytes, place: Place, images: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """(id, annotations as fields of the record) of a line. Errors: UserError."""
    try:
        entry = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(
            f"{place[0]}:{place[1]}: the line is not JSON ({error}); write an object a line"
        ) from None
    if not isinstance(entry, dict):
        raise UserError(
            f"{place[0]}:{place[1]}: the line is {shown(entry)}, not an object; write id, boxes or"
            " captions in braces"
        )
    named = "id" if "id" in entry else "image"
    id = entry.get(named)
    id = str(id) if isinstance(id, int) else id
    if not isinstance(id, str) or not id:
        raise mistake(
            place, named, id, "must be text that names a record; give its id, or its image's path"
        )
    if named == "image" and id not in images.values():
        id = images.get(str(Path(id).resolve()), id)
    fields: dict[str, Any] = {}
    if "boxes" in entry:
        fields["boxes"] = read_boxes(entry, place)
    for name in ("captions", "machine_captions"):
        if name in entry:
            try:
                fields["machine_captions"] = fields.get("machine_captions", []) + captions(
                    id, entry[name]
                )
            except BadRecord as error:
                raise mistake(
                    place,
                    name,
                    entry[name],
                    f"{error.reason}; give a list of texts or {{text, language}}",
                ) from None
    fields |= {name: entry[name] for name in ("words", "machine_words") if name in entry}
    if not fields:
        other = next((key for key in entry if suggestion(key, (*ANNOTATIONS, "captions"))), None)
        near = suggestion(other, (*ANNOTATIONS, "captions")) if other else ""
        raise UserError(
            f"{place[0]}:{place[1]}: {named}={id!r} has nothing to merge; {near}give"
            f" {', '.join(ANNOTATIONS)} or captions"
        )
    try:
        check_knowledge({"id": id, **fields})
    except BadRecord as error:
        wrong = next(
            (
                name
                for name in ANNOTATIONS
                if error.reason.startswith((name, name.removesuffix("es")))
            ),
            ANNOTATIONS[0],
        )
        raise mistake(place, wrong, fields.get(wrong), f"{error.reason}; correct it") from None
    return id, fields


def read_boxes(entry: Mapping[str, Any], place: Place) -> list[dict[str, Any]]:
    """Boxes of the schema from a line's `boxes`, `labels` and `scores`."""
    boxes, out = entry["boxes"], []
    if not isinstance(boxes, list):
        raise mistake(place, "boxes", boxes, "must be a list of {xyxy, label, score}")
    beside = {
        one: entry[many]
        for one, many in (("label", "labels"), ("score", "scores"))
        if many in entry
    }
    for one, values in beside.items():
        if not isinstance(values, list) or len(values) != len(boxes):
            raise mistake(place, f"{one}s", values, f"must be a list of {len(boxes)}, one a box")
    for k, item in enumerate(boxes):
        box = dict(item) if isinstance(item, dict) else {"xyxy": item}
        box = {**{one: values[k] for one, values in beside.items()}, **box}
        xyxy: Any = box.get("xyxy")
        if (
            not isinstance(xyxy, list)
            or len(xyxy) != 4
            or not all(isinstance(v, Real) and not isinstance(v, bool) for v in xyxy)
        ):
            raise mistake(
                place, f"boxes[{k}].xyxy", xyxy, "must be four numbers: left, top, right, bottom"
            )
        if not all(0 <= v <= 1 for v in xyxy):
            raise mistake(
                place,
                f"boxes[{k}].xyxy",
                xyxy,
                "must lie in [0, 1]; divide pixels by the picture's width and height",
            )
        if xyxy[0] > xyxy[2] or xyxy[1] > xyxy[3]:
            raise mistake(
                place,
                f"boxes[{k}].xyxy",
                xyxy,
                "is turned round; order it left, top, right, bottom",
            )
        out.append(box)
    return out


def ids(source: Any) -> set[str] | None:
    """Every id of a source whose ids can be read without its pictures, else None."""
    if isinstance(source, Folder):
        return {id for _, id in files(source)}
    if not isinstance(source, Shards):
        return None
    found = set()
    for i in range(len(source)):
        with contextlib.suppress(Exception):  # a bad record, which the pass over the records names
            data = source.rows[i]
            _, _, length = HEAD.unpack_from(data)
            found.add(json.loads(data[HEAD.size : HEAD.size + length])["id"])
    return found


def files(source: Any) -> Iterator[tuple[str, str]]:
    """(path, record's id) of every picture file of a folder; nothing for other sources."""
    for line in source.lines if isinstance(source, Folder) else ():
        with contextlib.suppress(Exception):  # a bad record, which the pass over the records names
            entry = json.loads(line)
            yield (
                str((source.root / entry["image"]).resolve()),
                str(entry.get("id") or entry["image"]),
            )


def mistake(place: Place, field: str, value: Any, remedy: str) -> UserError:
    """The sentence about a field of a line."""
    return UserError(f"{place[0]}:{place[1]}: {field}={shown(value)} {remedy}")


def unknown_id(place: Place, id: str) -> UserError:
    """The sentence about an id that the source does not have."""
    return mistake(
        place,
        "id",
        id,
        "is no record of the source; remove the line, or give the source that has it",
    )


def shown(value: Any, most: int = 120) -> str:
    """A value, cut where it is long."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "..."


class AnnotationsWriter:
    """Writes a line a record with its id and its annotations. Use as a context manager."""

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

    def __exit__(self, *error: Any) -> None:
        self.file.close()
