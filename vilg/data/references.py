"""Predicted captions and reference captions of the same items: which captions count in a language,
and how the items of two files are matched.

caption_files.py reads the files; vilg/metrics/captions.py scores lists of texts."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from vilg.data.caption_files import Item
from vilg.data.records import LANGUAGES, detect_language
from vilg.types import UserError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
# AIC-ICC's image ids are sha256(name) modulo this, the largest int of its authors' Python
AIC_MODULUS = 2**63 - 1
# a file counts as of one language if at most this share of its captions without a stated language
# is in another script
OTHER_SCRIPT = 0.05


def in_language(items: Sequence[Item], language: str) -> tuple[list[list[str]], int]:
    """Each item's captions in a language, and the number of captions in other languages.

    Where a file mixes languages, a caption without a stated language has that of its script. A file
    counts as of one language if at most the share OTHER_SCRIPT of these captions is in another
    script, because a Chinese caption may have no Han character."""
    unstated = [text for item in items for text, stated in item.captions if stated is None]
    others = sum(detect_language(text) != language for text in unstated)
    mixed = others > OTHER_SCRIPT * len(unstated)

    def counts(text: str, stated: str | None) -> bool:
        if stated is not None:
            return stated == language
        return not mixed or detect_language(text) == language

    chosen = [[text for text, stated in item.captions if counts(text, stated)] for item in items]
    return chosen, sum(len(item.captions) for item in items) - sum(map(len, chosen))


def references_of(items: Sequence[Item], language: str, where: str) -> tuple[list[list[str]], int]:
    """Each item's references in a language, and the number of captions in other languages. Errors:
    UserError for an item without a reference, or with an empty one."""
    for item in items:
        if not all(text.strip() for text, _ in item.captions):
            raise UserError(f"{where}: {item.place} has an empty caption; take it out")
    references, others = in_language(items, language)
    none = [item for item, texts in zip(items, references, strict=True) if not texts]
    if none:
        raise UserError(
            f"{where}: {len(none)} of {len(items)} items have no caption in {language!r} (first:"
            f" {none[0].name!r}, {none[0].place}); give them one, or score another --language of"
            f" {', '.join(LANGUAGES)}"
        )
    return references, others


def predictions_of(items: Sequence[Item], language: str, where: str) -> list[str]:
    """Each item's first caption that states the language or none. Errors: UserError for an item
    without such a caption.
    """
    candidates = [
        [text for text, stated in item.captions if stated in (None, language)] for item in items
    ]
    none = [item for item, texts in zip(items, candidates, strict=True) if not texts]
    if none:
        raise UserError(
            f"{where}: {len(none)} of {len(items)} items have no caption in {language!r} (first:"
            f" {none[0].name!r}, {none[0].place}); caption them in that language, or score another"
            " --language"
        )
    return [texts[0] for texts in candidates]


def file_name(item: Item) -> str:
    """The last part of the item's path."""
    return PurePosixPath((item.image or item.name).replace("\\", "/")).name


def stem(item: Item) -> str:
    """The item's file name without the ending of a picture."""
    name = file_name(item)
    ending = PurePosixPath(name).suffix
    return name[: -len(ending)] if ending.lower() in PICTURES else name


def aic_id(item: Item) -> str:
    """AIC-ICC's number of a picture: sha256 of its name (without ending) modulo 2^63 - 1. An id
    that is a number is returned as it is.
    """
    if item.id is not None and re.fullmatch(r"\d+", item.id):
        return item.id
    name = stem(Item(None, item.id or item.image, (), ""))
    return str(int(hashlib.sha256(name.encode()).hexdigest(), 16) % AIC_MODULUS)


# ways to name an item; `join` takes the first that matches two files
KEYS: dict[str, Callable[[Item], str | None]] = {
    "id": lambda item: item.id,
    "image": lambda item: item.image,
    "id or image": lambda item: item.name,
    "file name": file_name,
    "file name without ending": stem,
    "AIC-ICC number of the file name": aic_id,
}


def join(predictions: Sequence[Item], references: Sequence[Item]) -> tuple[list[int], str]:
    """The index of the prediction that belongs to each reference, and the key of KEYS by which they
    were matched: the first under which both sides name the same items, each of them once.

    Errors: UserError with the numbers of items that have no partner."""
    best: tuple[int, str, dict[str, int], dict[str, int]] | None = None
    for label, key in KEYS.items():
        left, right = numbered(predictions, key), numbered(references, key)
        if left is None or right is None:
            continue
        if left.keys() == right.keys():
            return [left[name] for name in right], label
        common = len(left.keys() & right.keys())
        if best is None or common > best[0]:
            best = (common, label, left, right)
    if best is None:
        raise UserError(
            "predictions: some have only an id and others only an image, or names that repeat; give"
            " every item of both files an id"
        )
    _, label, left, right = best
    unmatched = []
    if left.keys() - right.keys():
        n = len(left.keys() - right.keys())
        unmatched.append(f"{n} of {len(left)} predictions have no references")
    if right.keys() - left.keys():
        n = len(right.keys() - left.keys())
        unmatched.append(f"{n} of {len(right)} items of references have no prediction")
    first = next(name for name in (*left, *right) if (name in left) != (name in right))
    raise UserError(
        f"predictions: {' and '.join(unmatched)}, joined by {label} (first: {first!r}); score the"
        " same items on both sides"
    )


def numbered(items: Sequence[Item], key: Callable[[Item], str | None]) -> dict[str, int] | None:
    """Name -> index of each item.

    The result is None where an item has no name under the key, or where a name comes twice."""
    names = {name: i for i, item in enumerate(items) if (name := key(item)) is not None}
    return names if len(names) == len(items) else None
