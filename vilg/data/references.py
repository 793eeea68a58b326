"""Files of captions to be scored, or to score against, in the forms that data sets and systems
have, and how the two are matched.

    .jsonl   an object a line: `id` or `image`, and `caption` or `captions` (strings or
             {text, language}); what `vilg caption` writes
    .json    COCO and AIC-ICC: {"images", "annotations": [{image_id, caption}]}; a list of
             {image_id, caption} (COCO results, AIC-ICC's annotations and submissions);
             {"images": {id: {file_name, refs}}}
    .txt     COCO-CN: NAME#k, a tab, the caption; a line a caption

Separate from the scores, which take lists of text. A file is read or refused in one sentence with
its line."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vilg.data.prompts import read_utf8
from vilg.data.records import LANGUAGES, detect_language
from vilg.types import UserError

FORMATS = (".jsonl", ".json", ".txt")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
AIC_MODULUS = (
    2**63 - 1
)  # AIC-ICC's image ids are sha256(name) modulo the largest int of its authors' Python
STRAY = (
    0.05  # share of bare captions in another language up to which a file counts as of one language
)


@dataclass(frozen=True)
class Item:
    """One picture's captions, (text, language or None where it is not told) each; `place` is where
    it stands, for messages.
    """

    id: str | None
    image: str | None
    captions: tuple[tuple[str, str | None], ...]
    place: str

    @property
    def name(self) -> str:
        """What a person would call it."""
        return self.id if self.id is not None else str(self.image)


def read_captions(path: str | Path, field: str) -> list[Item]:
    """The items of a file, in its order. `field` ("predictions", "references") names the file in
    messages.

    Errors: UserError for a missing file, an unknown ending or form, bytes that are not UTF-8,
    broken JSON (with the line), an item without `id` or `image`, without captions or with an empty
    list of them, a caption that is not text, an id that comes twice, or no item at all."""
    path = Path(path)
    where = f"{field}={str(path)!r}"
    if path.suffix.lower() not in FORMATS:
        raise UserError(
            f"{where}: is of unknown format; give a file that ends in {', '.join(FORMATS)}"
        )
    text = read_utf8(path, where)
    read = {".jsonl": from_lines, ".json": from_json, ".txt": from_numbered}[path.suffix.lower()]
    items = read(text, where)
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
    """JSON lines."""
    items = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            items.append(item_of(parsed(line, where, number), where, f"line {number}"))
    return items


def from_json(text: str, where: str) -> list[Item]:
    """The JSON files of COCO, AIC-ICC and COCO-CN."""
    whole = parsed(text, where, None)
    if isinstance(whole, list):
        return [item_of(row, where, f"entry {i}") for i, row in enumerate(whole)]
    if isinstance(whole, dict) and isinstance(whole.get("annotations"), list):
        return from_annotations(whole, where)
    if isinstance(whole, dict) and isinstance(whole.get("images"), dict):
        return [
            item_of(
                (
                    {"id": id, "image": row.get("file_name"), "captions": row.get("refs")}
                    if isinstance(row, dict)
                    else row
                ),
                where,
                f"image {id!r}",
            )
            for id, row in whole["images"].items()
        ]
    raise UserError(
        f'{where}: is of unknown form; give {{"images", "annotations"}} as COCO has, or a list of'
        " {image_id, caption}"
    )


def from_annotations(whole: Mapping[str, Any], where: str) -> list[Item]:
    """COCO's form: an annotation a caption, the names of pictures beside them."""
    rows = whole.get("images")
    files = (
        {row["id"]: row.get("file_name") for row in rows if isinstance(row, dict) and "id" in row}
        if isinstance(rows, list)
        else {}
    )
    grouped: dict[Any, list[Any]] = {}
    for i, row in enumerate(whole["annotations"]):
        if not isinstance(row, dict) or "image_id" not in row or "caption" not in row:
            raise UserError(
                f"{where}: annotation {i} has no image_id and caption; give a file of captions"
            )
        grouped.setdefault(row["image_id"], []).append(row["caption"])
    return [
        item_of({"id": id, "image": files.get(id), "captions": found}, where, f"image {id!r}")
        for id, found in grouped.items()
    ]


def from_numbered(text: str, where: str) -> list[Item]:
    """COCO-CN's form: NAME#k, a tab, the caption."""
    grouped: dict[str, list[str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name, tab, caption = line.partition("\t")
        name, sign, _ = name.rpartition("#")
        if not tab or not sign or not name.strip():
            raise UserError(
                f"{where}: line {number} is not NAME#k, a tab and a caption; write it so, or give"
                f" {', '.join(FORMATS[:2])}"
            )
        grouped.setdefault(name.strip(), []).append(caption)
    return [
        item_of({"image": name, "captions": found}, where, f"picture {name!r}")
        for name, found in grouped.items()
    ]


def parsed(text: str, where: str, line: int | None) -> Any:
    """The JSON value. Errors: UserError with the line."""
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


def item_of(row: Any, where: str, place: str) -> Item:
    """The item of an object. COCO's result rows may have an `id` of their own beside image_id,
    which names the picture.
    """
    if not isinstance(row, dict):
        raise UserError(f"{where}: {place} is not an object; write {{id or image, captions}}")
    id = name_of(row, ("image_id", "id"), where, place)
    image = name_of(row, ("image", "file_name"), where, place)
    if id is None and image is None:
        raise UserError(
            f"{where}: {place} has no id and no image, so nothing joins it; give one of them"
        )
    found = next((row[key] for key in ("captions", "caption") if row.get(key) is not None), None)
    found = [found] if isinstance(found, str | dict) else found
    if not isinstance(found, list) or not found:
        raise UserError(f"{where}: {place} has no captions; give it one or more under 'captions'")
    return Item(id, image, tuple(caption_of(c, where, place) for c in found), place)


def name_of(row: Mapping[str, Any], keys: Sequence[str], where: str, place: str) -> str | None:
    """The first of the keys that the object has, as text."""
    for key in keys:
        value = row.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise UserError(f"{where}: {place} has {key}={value!r}; give a whole number or text")
        return str(value)
    return None


def caption_of(caption: Any, where: str, place: str) -> tuple[str, str | None]:
    """(text, language) of a string or {text, language}."""
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


def in_language(items: Sequence[Item], language: str) -> tuple[list[list[str]], int]:
    """(each item's captions in the language, how many others were left out).

    A caption that does not tell its language has the one of its script, where the file mixes
    languages; a file with fewer than STRAY of its untold captions in another script is of one
    language, since a Chinese caption may have no Han character."""
    untold = [text for item in items for text, told in item.captions if told is None]
    others = sum(detect_language(text) != language for text in untold)
    mixed = others > STRAY * len(untold)

    def counts(text: str, told: str | None) -> bool:
        return (
            (detect_language(text) if mixed else language) == language
            if told is None
            else told == language
        )

    kept = [[text for text, told in item.captions if counts(text, told)] for item in items]
    return kept, sum(len(item.captions) for item in items) - sum(map(len, kept))


def references_of(items: Sequence[Item], language: str, where: str) -> tuple[list[list[str]], int]:
    """Each item's references in the language, and how many captions in others were left out.
    Errors: UserError for an item without one, or a blank one."""
    for item in items:
        if not all(text.strip() for text, _ in item.captions):
            raise UserError(f"{where}: {item.place} has an empty caption; take it out")
    kept, left = in_language(items, language)
    none = [item for item, texts in zip(items, kept, strict=True) if not texts]
    if none:
        raise UserError(
            f"{where}: {len(none)} of {len(items)} items have no caption in {language!r} (first:"
            f" {none[0].name!r}, {none[0].place}); give them one, or score another --language of"
            f" {', '.join(LANGUAGES)}"
        )
    return kept, left


def predictions_of(items: Sequence[Item], language: str, where: str) -> list[str]:
    """Each item's first caption that is in the language or does not tell one. Errors: UserError for
    an item without such.
    """
    kept = [[text for text, told in item.captions if told in (None, language)] for item in items]
    none = [item for item, texts in zip(items, kept, strict=True) if not texts]
    if none:
        raise UserError(
            f"{where}: {len(none)} of {len(items)} items have no caption in {language!r} (first:"
            f" {none[0].name!r}, {none[0].place}); caption them in that language, or score another"
            " --language"
        )
    return [texts[0] for texts in kept]


def file_name(item: Item) -> str:
    """The last part of its path."""
    return PurePosixPath((item.image or item.name).replace("\\", "/")).name


def stem(item: Item) -> str:
    """The file's name without the ending of a picture."""
    name = file_name(item)
    return (
        name[: -len(PurePosixPath(name).suffix)]
        if PurePosixPath(name).suffix.lower() in PICTURES
        else name
    )


def aic_id(item: Item) -> str:
    """AIC-ICC's number of a picture: sha256 of its name (without ending) modulo 2^63 - 1; a number
    stays.
    """
    if item.id is not None and re.fullmatch(r"\d+", item.id):
        return item.id
    return str(
        int(
            hashlib.sha256(stem(Item(None, item.id or item.image, (), "")).encode()).hexdigest(), 16
        )
        % AIC_MODULUS
    )


KEYS: dict[str, Callable[[Item], str | None]] = {
    "id": lambda item: item.id,
    "image": lambda item: item.image,
    "id or image": lambda item: item.name,
    "file name": file_name,
    "file name without ending": stem,
    "AIC-ICC number of the file name": aic_id,
}


def join(predictions: Sequence[Item], references: Sequence[Item]) -> tuple[list[int], str]:
    """(the prediction's place in its list for each reference, by which key of KEYS they were
    matched): the first under which both sides name the same items, each once. Errors: UserError
    with the counts of those that have no partner."""
    best: tuple[int, str, dict[str, int], dict[str, int]] | None = None
    for label, key in KEYS.items():
        left, right = (
            {key(item): i for i, item in enumerate(side)} for side in (predictions, references)
        )
        if (
            None in left
            or None in right
            or len(left) < len(predictions)
            or len(right) < len(references)
        ):
            continue
        if left.keys() == right.keys():
            return [left[name] for name in right], label
        common = len(left.keys() & right.keys())
        if best is None or common > best[0]:
            best = (common, label, left, right)  # type: ignore[assignment]
    if best is None:
        raise UserError(
            "predictions: some have only an id and others only an image, or names that repeat; give"
            " every item of both files an id"
        )
    _, label, left, right = best
    without = (
        [f"{len(left.keys() - right.keys())} of {len(left)} predictions have no references"]
        if left.keys() - right.keys()
        else []
    )
    without += (
        [
            f"{len(right.keys() - left.keys())} of {len(right)} items of references have no"
            " prediction"
        ]
        if right.keys() - left.keys()
        else []
    )
    odd = next(iter(n for n in (*left, *right) if (n in left) != (n in right)))
    raise UserError(
        f"predictions: {' and '.join(without)}, joined by {label} (first: {odd!r}); score the same"
        " items on both sides"
    )
