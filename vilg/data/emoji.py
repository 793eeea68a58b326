"""The `emoji` data source: what `vilg data prepare emoji` made, in several art styles, with names
in Chinese and English.

Separate from the preparation because it only reads. It decides which emoji a run may see (a split
table, or its own split by concept, so that skin-tone variants and pixel twins stay on one side) and
how the captions are worded."""

import csv
import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from vilg.config import require
from vilg.data.records import Lazy, Record
from vilg.data.shards import Shards
from vilg.paths import local
from vilg.types import UserError

INDEX = "emoji.jsonl"
STYLES = {
    "noto": "Noto",
    "twemoji": "Twemoji",
    "openmoji": "OpenMoji",
    "fluent_flat": "Fluent",
}  # as captions call them
WORDINGS = ("name", "style", "keywords")


def wordings_of(row: dict[str, Any], wordings: tuple[str, ...] = WORDINGS) -> list[dict[str, str]]:
    """The captions of an index row, each wording in Chinese and English."""
    style = STYLES[row["style"]]
    texts = {
        "name": {"zh": row["zh"], "en": row["en"]},
        "style": {
            "zh": f"{style}风格的{row['zh']}表情",
            "en": f"an emoji of {row['en']} in {style} style",
        },
        "keywords": {
            "zh": f"{row['zh']}（{'、'.join(row['zh_keywords'][:3])}）",
            "en": f"{row['en']} ({', '.join(row['en_keywords'][:3])})",
        },
    }
    kept = [
        name
        for name in wordings
        if name != "keywords" or (row["zh_keywords"] and row["en_keywords"])
    ]
    return [
        {"text": texts[name][language], "language": language}
        for name in kept
        for language in ("zh", "en")
    ]


@dataclass(frozen=True)
class Emoji(Lazy):
    """Emoji of the prepared directory `path`. `split` is a .tsv with the columns id and split; rows
    marked `use` are taken, and emoji that the table does not list are never used. Without a table 5
    % of the concepts are "valid"."""

    path: str
    split: str = ""
    use: str = "train"  # or "valid"
    styles: tuple[str, ...] = tuple(STYLES)
    wordings: tuple[str, ...] = ("name", "style")
    skin_tones: bool = True
    duplicates: bool = (
        True  # also pictures that equal another emoji's of the style, pixel for pixel
    )

    def __post_init__(self):
        for name, values, known in (
            ("styles", self.styles, STYLES),
            ("wordings", self.wordings, WORDINGS),
        ):
            right = bool(values) and set(values) <= set(known) and set(values) != {"keywords"}
            require(
                right,
                f"emoji {name}",
                values,
                f"name one or more of {', '.join(known)} (keywords only beside another)",
            )
        require(self.use in ("train", "valid"), "emoji use", self.use, "must be 'train' or 'valid'")

    @functools.cached_property
    def shards(self) -> Shards:
        """The pictures."""
        return Shards(self.path)

    @functools.cached_property
    def rows(self) -> list[tuple[int, dict[str, Any]]]:
        """(number of the record in the shards, index row) of what this source may use; UserError if
        that is nothing.
        """
        require(
            (local(self.path) / INDEX).is_file(),
            "emoji path",
            self.path,
            f"has no {INDEX}; run vilg data prepare emoji --out=DIR",
        )
        require(
            not self.split or local(self.split).is_file(),
            "emoji split",
            self.split,
            "there is no such file; give an id/split table",
        )
        table = self._table()
        rows = []
        with open(local(self.path) / INDEX, encoding="utf-8") as file:
            for number, line in enumerate(file):
                row = json.loads(line)
                if row["style"] not in self.styles or (row["skin_tone"] and not self.skin_tones):
                    continue
                if row["duplicate_of"] and not self.duplicates:
                    continue
                if (own_split(row["root"]) if table is None else table.get(row["id"])) == self.use:
                    rows.append((number, row))
        if not rows:
            raise UserError(
                f"emoji split={self.split!r} use={self.use!r}: marks no emoji of {self.path}; check"
                " the table's ids"
            )
        return rows

    def _table(self) -> dict[str, str] | None:
        if not self.split:
            return None
        with open(local(self.split), encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"id", "split"} <= set(reader.fieldnames or ()):
                raise UserError(
                    f"emoji split={self.split!r}: needs the tab-separated columns id and split, has"
                    f" {reader.fieldnames}"
                )
            table = {}
            for row in reader:
                id = "-".join(
                    point
                    for point in (row["id"] or "").strip().lower().split("-")
                    if point != "fe0f"
                )
                if table.setdefault(id, row["split"]) != row["split"]:
                    raise UserError(
                        f"emoji split={self.split!r}: {id} is listed twice with different splits;"
                        " keep one row"
                    )
        return table

    def content(self) -> str:
        """The shards' digest and a digest of which of them are used and how they are worded."""
        numbers = json.dumps([[number for number, _ in self.rows], self.wordings])
        return f"emoji:{self.shards.content()}:{hashlib.sha256(numbers.encode()).hexdigest()}"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Record:
        number, row = self.rows[i]
        return {**self.shards[number], "captions": wordings_of(row, self.wordings)}


def own_split(root: str) -> str:
    """ "valid" for one concept in twenty, by its hash."""
    return "valid" if hashlib.sha256(root.encode()).digest()[0] % 20 == 0 else "train"
