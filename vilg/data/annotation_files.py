"""Files of annotations that `vilg data annotate --merge` reads: boxes, captions and words of other
models, joined to records by id.

A line of such a .jsonl has `id`, or `image` as `vilg caption` writes it, and any of: `boxes` (a
list of {"xyxy" in [0, 1], "label", "score"}, or of xyxy lists beside `labels` and `scores`),
`captions` or `machine_captions` (both become machine captions, apart from people's captions),
`words`, and `machine_words`."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from vilg.config import suggestion
from vilg.data.folder import Folder
from vilg.data.knowledge import check_knowledge
from vilg.data.records import BadRecord, captions
from vilg.data.shards import HEAD, Shards
from vilg.data.sources import Source
from vilg.types import UserError

ANNOTATIONS = ("boxes", "machine_captions", "words", "machine_words")
Place = tuple[str, int]  # file and line


def read_merged(
    merge: Sequence[str], known: set[str] | None, images: Mapping[str, str]
) -> tuple[dict[str, Place], dict[str, Any]]:
    """The place of each id in the files, for messages, and its annotations.

    `known` are the ids of the source, or None where they cannot be read cheaply; `images` maps the
    paths of its pictures to ids. Errors: UserError for a line that cannot be merged."""
    places: dict[str, Place] = {}
    annotations: dict[str, dict[str, Any]] = {}
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
                # a later message about an id is most likely about the number of its words
                if id not in places or {"words", "machine_words"} & set(fields):
                    places[id] = place
                earlier = annotations.setdefault(id, {})
                for name, value in fields.items():
                    if name in ("boxes", "machine_captions") and name in earlier:
                        value = [*earlier[name], *value]
                    earlier[name] = value
    return places, annotations


def read_line(line: bytes, place: Place, images: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The id of a line, and its annotations as fields of a record. Errors: UserError."""
    try:
        entry = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(
            f"{place[0]}:{place[1]}: the line is not JSON ({error}); write an object a line"
        ) from None
    if not isinstance(entry, dict):
        raise UserError(
            f"{place[0]}:{place[1]}: the line is {short(entry)}, not an object; write id, boxes or"
            " captions in braces"
        )
    field = "id" if "id" in entry else "image"
    id = entry.get(field)
    id = str(id) if isinstance(id, int) else id
    if not isinstance(id, str) or not id:
        raise mistake(
            place, field, id, "must be text that names a record; give its id, or its image's path"
        )
    if field == "image" and id not in images.values():
        id = images.get(str(Path(id).resolve()), id)
    fields = read_fields(id, entry, place)
    if not fields:
        other = next((key for key in entry if suggestion(key, (*ANNOTATIONS, "captions"))), None)
        near = suggestion(other, (*ANNOTATIONS, "captions")) if other else ""
        raise UserError(
            f"{place[0]}:{place[1]}: {field}={id!r} has nothing to merge; {near}give"
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


def read_fields(id: str, entry: Mapping[str, object], place: Place) -> dict[str, Any]:
    """The annotations of a line as fields of a record; `captions` become machine captions."""
    fields: dict[str, Any] = {}
    if "boxes" in entry:
        fields["boxes"] = read_boxes(entry, place)
    for name in ("captions", "machine_captions"):
        if name in entry:
            try:
                items = captions(id, entry[name])
            except BadRecord as error:
                remedy = f"{error.reason}; give a list of texts or {{text, language}}"
                raise mistake(place, name, entry[name], remedy) from None
            fields["machine_captions"] = fields.get("machine_captions", []) + items
    return fields | {name: entry[name] for name in ("words", "machine_words") if name in entry}


def read_boxes(entry: Mapping[str, Any], place: Place) -> list[dict[str, Any]]:
    """Boxes of the schema from a line's `boxes`, `labels` and `scores`."""
    boxes, out = entry["boxes"], []
    if not isinstance(boxes, list):
        raise mistake(place, "boxes", boxes, "must be a list of {xyxy, label, score}")
    lists = {field: entry[f"{field}s"] for field in ("label", "score") if f"{field}s" in entry}
    for field, values in lists.items():
        if not isinstance(values, list) or len(values) != len(boxes):
            raise mistake(place, f"{field}s", values, f"must be a list of {len(boxes)}, one a box")
    for k, item in enumerate(boxes):
        box = dict(item) if isinstance(item, dict) else {"xyxy": item}
        box = {**{field: values[k] for field, values in lists.items()}, **box}
        fault = fault_of_box(box.get("xyxy"))
        if fault:
            raise mistake(place, f"boxes[{k}].xyxy", box.get("xyxy"), fault)
        out.append(box)
    return out


def fault_of_box(xyxy: object) -> str:
    """The fault of a box and its remedy, or ""."""
    if not isinstance(xyxy, list) or len(xyxy) != 4:
        return "must be four numbers: left, top, right, bottom"
    if not all(isinstance(v, Real) and not isinstance(v, bool) for v in xyxy):
        return "must be four numbers: left, top, right, bottom"
    if not all(0 <= v <= 1 for v in xyxy):
        return "must lie in [0, 1]; divide pixels by the picture's width and height"
    if xyxy[0] > xyxy[2] or xyxy[1] > xyxy[3]:
        return "is turned round; order it left, top, right, bottom"
    return ""


def ids(source: Source) -> set[str] | None:
    """Every id of a source whose ids can be read without its pictures, else None."""
    if isinstance(source, Folder):
        return {id for _, id in files(source)}
    if not isinstance(source, Shards):
        return None
    found = set()
    for i in range(len(source)):
        with contextlib.suppress(Exception):  # the pass over the records names bad ones
            data = source.rows[i]
            _, _, length = HEAD.unpack_from(data)
            found.add(json.loads(data[HEAD.size : HEAD.size + length])["id"])
    return found


def files(source: Source) -> Iterator[tuple[str, str]]:
    """(path, record's id) of every picture file of a folder; nothing for other sources."""
    if not isinstance(source, Folder):
        return
    for line in source.lines:
        with contextlib.suppress(Exception):  # the pass over the records names bad ones
            entry = json.loads(line)
            yield (
                str((source.root / entry["image"]).resolve()),
                str(entry.get("id") or entry["image"]),
            )


def mistake(place: Place, field: str, value: object, remedy: str) -> UserError:
    """The error about a field of a line."""
    return UserError(f"{place[0]}:{place[1]}: {field}={short(value)} {remedy}")


def unknown_id(place: Place, id: str) -> UserError:
    """The error about an id that the source does not have."""
    return mistake(
        place,
        "id",
        id,
        "is no record of the source; remove the line, or give the source that has it",
    )


def short(value: object, length: int = 120) -> str:
    """A value as text of at most `length` characters."""
    text = repr(value)
    return text if len(text) <= length else text[:length] + "..."
