"""The `emoji` data source: emoji in several art styles with Chinese and English names, from a
directory that `vilg data prepare emoji` made.

The source decides which emoji a run may see, by a split table or by a split of concepts, which
keeps variants of skin tone and emoji of equal pixels on one side. It also words the captions."""

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
# style -> its name in captions
STYLES = {
    "noto": "Noto",
    "twemoji": "Twemoji",
    "openmoji": "OpenMoji",
    "fluent_flat": "Fluent",
}
WORDINGS = ("name", "style", "keywords")


def wordings_of(row: dict[str, Any], wordings: tuple[str, ...] = WORDINGS) -> list[dict[str, str]]:
    """The captions of a row of the index, in Chinese and English for each wording."""
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
    possible = [
        name
        for name in wordings
        if name != "keywords" or (row["zh_keywords"] and row["en_keywords"])
    ]
    return [
        {"text": texts[name][language], "language": language}
        for name in possible
        for language in ("zh", "en")
    ]


@dataclass(frozen=True)
class Emoji(Lazy):
    """Emoji of the prepared directory `path`."""

    path: str  # directory that `vilg data prepare emoji` wrote
    # A .tsv with the columns id and split: rows whose split is `use` are taken, and emoji that are
    # not in the table are never taken. Without a table 5 % of the concepts are "valid".
    split: str = ""
    use: str = "train"  # which records: "train" or "valid"
    styles: tuple[str, ...] = tuple(STYLES)  # styles of pictures, a key of STYLES each
    # captions of a record: its name, or its name with the style
    wordings: tuple[str, ...] = ("name", "style")
    skin_tones: bool = True  # also emoji with a skin tone
    duplicates: bool = True  # also pictures whose pixels equal those of another emoji in the style

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
        """The records with their pictures."""
        return Shards(self.path)

    @functools.cached_property
    def rows(self) -> list[tuple[int, dict[str, Any]]]:
        """(number of the record in the shards, row of the index) of each emoji that this source
        uses. Errors: UserError if there is none.
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
        split_of = self._split_table()
        rows = []
        with open(local(self.path) / INDEX, encoding="utf-8") as file:
            for number, line in enumerate(file):
                row = json.loads(line)
                if row["style"] not in self.styles or (row["skin_tone"] and not self.skin_tones):
                    continue
                if row["duplicate_of"] and not self.duplicates:
                    continue
                split = own_split(row["root"]) if split_of is None else split_of.get(row["id"])
                if split == self.use:
                    rows.append((number, row))
        if not rows:
            raise UserError(
                f"emoji split={self.split!r} use={self.use!r}: marks no emoji of {self.path}; check"
                " the table's ids"
            )
        return rows

    def _split_table(self) -> dict[str, str] | None:
        """id -> split, from the file `split`; None without one. Errors: UserError for a file that
        is no such table.
        """
        if not self.split:
            return None
        with open(local(self.split), encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"id", "split"} <= set(reader.fieldnames or ()):
                raise UserError(
                    f"emoji split={self.split!r}: needs the tab-separated columns id and split, has"
                    f" {reader.fieldnames}"
                )
            split_of: dict[str, str] = {}
            for row in reader:
                points = (row["id"] or "").strip().lower().split("-")
                id = "-".join(point for point in points if point != "fe0f")
                if split_of.setdefault(id, row["split"]) != row["split"]:
                    raise UserError(
                        f"emoji split={self.split!r}: {id} is listed twice with different splits;"
                        " keep one row"
                    )
        return split_of

    def content(self) -> str:
        """The shards' digest, and a digest of the used records and the wordings."""
        numbers = json.dumps([[number for number, _ in self.rows], self.wordings])
        return f"emoji:{self.shards.content()}:{hashlib.sha256(numbers.encode()).hexdigest()}"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Record:
        number, row = self.rows[i]
        return {**self.shards[number], "captions": wordings_of(row, self.wordings)}


def own_split(root: str) -> str:
    """The split of a concept by its hash: "valid" for one in twenty, else "train"."""
    return "valid" if hashlib.sha256(root.encode()).digest()[0] % 20 == 0 else "train"
