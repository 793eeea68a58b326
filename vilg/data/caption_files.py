"""Files of captions, in the forms that data sets and captioning systems write. A file is read as a
whole, or refused with one sentence that names its line.

    .jsonl   an object a line: `id` or `image`, and `caption` or `captions` (strings or
             {text, language}); what `vilg caption` writes
    .json    COCO and AIC-ICC: {"images", "annotations": [{image_id, caption}]}; a list of
             {image_id, caption} (COCO results, AIC-ICC's annotations and submissions);
             {"images": {id: {file_name, refs}}}
    .txt     COCO-CN: NAME#k, a tab, the caption; a line a caption
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilg.data.prompts import read_utf8
from vilg.types import UserError


@dataclass(frozen=True)
class Item:
    """One picture's captions. It has an id, or an image's path, or both."""

    id: str | None
    image: str | None
    captions: tuple[tuple[str, str | None], ...]  # (text, stated language or None)
    place: str  # its place in the file, for messages

    @property
    def name(self) -> str:
        """The id if there is one, else the image's path."""
        return self.id if self.id is not None else str(self.image)


def read_captions(path: str | Path, field: str) -> list[Item]:
    """The items of a file, in its order. `field` ("predictions" or "references") names the file in
    messages.

    Errors: UserError for a missing file, an unknown ending or form, bytes that are not UTF-8,
    broken JSON (with the line), an item without `id` and `image`, without captions or with an empty
    list of them, a caption that is not text, an id that comes twice, or no item at all."""
    path = Path(path)
    where = f"{field}={str(path)!r}"
    if path.suffix.lower() not in READERS:
        raise UserError(
            f"{where}: is of unknown format; give a file that ends in {', '.join(READERS)}"
        )
    items = READERS[path.suffix.lower()](read_utf8(path, where), where)
    if not items:
        raise UserError(f"{where}: holds no captions; write an item a line")
    seen: dict[tuple[str | None, str | None], Item] = {}
    for item in items:
        key = (item.id, None if item.id is not None else item.image)
        if key in seen:
            raise UserError(
                f"{where}: {item.place} repeats {item.name!r} of {seen[key].place}; write one item"
                " with all its captions"
            )
        seen[key] = item
    return items


def from_lines(text: str, where: str) -> list[Item]:
    """The items of JSON lines."""
    items = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            items.append(item_of(parsed(line, where, number), where, f"line {number}"))
    return items


def from_json(text: str, where: str) -> list[Item]:
    """The items of a JSON file of COCO, AIC-ICC or COCO-CN."""
    content = parsed(text, where, None)
    if isinstance(content, list):
        return [item_of(row, where, f"entry {i}") for i, row in enumerate(content)]
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return from_annotations(content, where)
    if isinstance(content, dict) and isinstance(content.get("images"), dict):
        items = []
        for id, row in content["images"].items():
            if isinstance(row, dict):
                row = {"id": id, "image": row.get("file_name"), "captions": row.get("refs")}
            items.append(item_of(row, where, f"image {id!r}"))
        return items
    raise UserError(
        f'{where}: is of unknown form; give {{"images", "annotations"}} as COCO has, or a list of'
        " {image_id, caption}"
    )


def from_annotations(content: Mapping[str, Any], where: str) -> list[Item]:
    """The items of COCO's form: an annotation for each caption, and the names of pictures."""
    rows = content.get("images")
    files = (
        {row["id"]: row.get("file_name") for row in rows if isinstance(row, dict) and "id" in row}
        if isinstance(rows, list)
        else {}
    )
    grouped: dict[Any, list[Any]] = {}
    for i, row in enumerate(content["annotations"]):
        if not isinstance(row, dict) or "image_id" not in row or "caption" not in row:
            raise UserError(
                f"{where}: annotation {i} has no image_id and caption; give a file of captions"
            )
        grouped.setdefault(row["image_id"], []).append(row["caption"])
    return [
        item_of({"id": id, "image": files.get(id), "captions": captions}, where, f"image {id!r}")
        for id, captions in grouped.items()
    ]


def from_numbered(text: str, where: str) -> list[Item]:
    """The items of COCO-CN's form: NAME#k, a tab, the caption."""
    grouped: dict[str, list[str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name, tab, caption = line.partition("\t")
        name, sign, _ = name.rpartition("#")
        if not tab or not sign or not name.strip():
            raise UserError(
                f"{where}: line {number} is not NAME#k, a tab and a caption; write it so, or give"
                " .jsonl, .json"
            )
        grouped.setdefault(name.strip(), []).append(caption)
    return [
        item_of({"image": name, "captions": captions}, where, f"picture {name!r}")
        for name, captions in grouped.items()
    ]


READERS: dict[str, Callable[[str, str], list[Item]]] = {
    ".jsonl": from_lines,
    ".json": from_json,
    ".txt": from_numbered,
}


def parsed(text: str, where: str, line: int | None) -> Any:
    """The value of JSON text. Errors: UserError with the line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where}: line {line or error.lineno} is not JSON ({error.msg}); mend it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{where}: {f'line {line} ' if line else ''}is not JSON ({error}); mend it"
        ) from None


def item_of(row: object, where: str, place: str) -> Item:
    """The item of a JSON object.

    COCO's results may have an `id` beside image_id; then image_id names the picture."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: {place} is not an object; write {{id or image, captions}}")
    id = name_of(row, ("image_id", "id"), where, place)
    image = name_of(row, ("image", "file_name"), where, place)
    if id is None and image is None:
        raise UserError(
            f"{where}: {place} has no id and no image, so nothing joins it; give one of them"
        )
    captions = next((row[key] for key in ("captions", "caption") if row.get(key) is not None), None)
    captions = [captions] if isinstance(captions, str | dict) else captions
    if not isinstance(captions, list) or not captions:
        raise UserError(f"{where}: {place} has no captions; give it one or more under 'captions'")
    return Item(id, image, tuple(caption_of(c, where, place) for c in captions), place)


def name_of(row: Mapping[str, object], keys: Sequence[str], where: str, place: str) -> str | None:
    """The value of the first of the keys that the object has, as text."""
    for key in keys:
        value = row.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise UserError(f"{where}: {place} has {key}={value!r}; give a whole number or text")
        return str(value)
    return None


def caption_of(caption: object, where: str, place: str) -> tuple[str, str | None]:
    """(text, stated language or None) of a string or {text, language}."""
    text, language = (
        (caption.get("text"), caption.get("language"))
        if isinstance(caption, dict)
        else (caption, None)
    )
    if not isinstance(text, str) or not isinstance(language, str | None):
        raise UserError(
            f"{where}: {place} has the caption {caption!r}; give text or {{text, language}}"
        )
    return text, language
