"""The table of data sources. A config section, or a `KIND:PATH` of the command line, becomes a
source through it.

A source is a frozen, picklable dataclass with `len` and random access; its files are opened at
first use. `source[i]` is a record (see records.py) or raises BadRecord. A source with `content()`
identifies its records wherever their files lie."""

import functools
import hashlib
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from vilg.config import build, lookup, require
from vilg.data.emoji import Emoji
from vilg.data.folder import Folder
from vilg.data.records import BadRecord, Lazy, Record
from vilg.data.scenes.source import Synthetic
from vilg.data.shards import Shards
from vilg.data.tfds import TFDS
from vilg.data.webdataset import WebDataset
from vilg.types import UserError


@runtime_checkable
class Source(Protocol):
    """Captioned pictures by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Record:
        """Record i, the same one every time. Errors: BadRecord if it cannot be used."""
        ...


@runtime_checkable
class HasContent(Protocol):
    """A source that identifies its records by more than its fields."""

    def content(self) -> str:
        """Text that changes with the records, and does not change with the place of their files."""
        ...


@runtime_checkable
class WritesCaptions(Protocol):
    """A source that writes its captions itself, in some languages."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of its captions."""
        ...


@dataclass(frozen=True)
class Split(Lazy):
    """The records of another source that are for training, or those that are for validation.

    The number of a record alone decides, so that the parts do not depend on the place of the files.
    A picture that the source holds twice may be in both parts."""

    of: str  # the other source as KIND:PATH, such as folder:my_photos
    part: Literal["train", "valid"] = "train"  # which of the records
    every: int = 20  # the last of so many records in a row is for validation

    def __post_init__(self) -> None:
        require(self.every >= 2, "every", self.every, "must be at least 2")
        _ = self.source  # refuses a source that does not exist

    @functools.cached_property
    def source(self) -> Source:
        """The other source."""
        return parse_source(self.of)

    def content(self) -> str:
        """The fingerprint of the other source, and the part of it."""
        return f"split:{fingerprint(self.source)}:{self.part}:{self.every}"

    def __len__(self) -> int:
        valid = len(self.source) // self.every
        return valid if self.part == "valid" else len(self.source) - valid

    def __getitem__(self, i: int) -> Record:
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        if self.part == "valid":
            return self.source[self.every * (i + 1) - 1]
        return self.source[i + i // (self.every - 1)]


SOURCES: dict[str, type] = {
    "synthetic": Synthetic,
    "emoji": Emoji,
    "folder": Folder,
    "shards": Shards,
    "webdataset": WebDataset,
    "tfds": TFDS,
    "split": Split,
}
# the field that PATH sets in KIND:PATH, where it is not `path`
PATH_FIELDS = {"synthetic": "split", "tfds": "dataset", "split": "of"}


def build_source(section: Mapping[str, object], path: str) -> Source:
    """The source of a config section `{"name": KIND, fields ...}`. `path` is the section's path in
    the config, for messages.
    """
    return build(lookup(SOURCES, section.get("name"), f"{path}.name"), section, path)


def parse_source(text: str, **fields: object) -> Source:
    """The source that `KIND:PATH` or `KIND:PATH,field=value,...` names.

    A value is converted to its field's type, and "+" separates the items of a list. `fields` are
    further fields, which have their types already. Errors: UserError for an unknown kind or
    field."""
    kind, colon, rest = text.partition(":")
    if not colon:
        raise UserError(
            f"source={text!r}: give KIND:PATH, where KIND is one of {', '.join(SOURCES)}"
        )
    cls = lookup(SOURCES, kind, "source kind")
    pattern = r"(?:^|,)(?=[a-z_]+=)"
    path, *pairs = re.split(pattern, rest)
    section: dict[str, object] = {PATH_FIELDS.get(kind, "path"): path} if path else {}
    hints = typing.get_type_hints(cls)
    for pair in pairs:
        name, _, value = pair.partition("=")
        section[name] = literal(value, hints.get(name))
    return build(cls, {**section, **fields}, f"source {kind}")


def literal(text: str, hint: object) -> object:
    """The text as a value of the field's type. Text that is no such value stays as it is, and
    `build` refuses it by name.
    """
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(literal(part, inner) for part in text.split("+"))
    if hint is bool and text in ("true", "false", "True", "False"):
        return text in ("true", "True")
    if hint is int or hint is float:
        try:
            return int(text) if hint is int else float(text)
        except ValueError:
            return text
    return text


def caption_texts(source: Source, count: int | None = 20_000) -> Iterator[str]:
    """The captions of at most `count` records (None: all), spread evenly over a source, without bad
    records. A text model is trained on them."""
    size = len(source)
    number = size if count is None else min(count, size)
    for k in range(number):
        try:
            record = source[k * size // number]
        except BadRecord:
            continue
        yield from (caption["text"] for caption in record["captions"])


def fingerprint(source: Source) -> str:
    """16 hex digits that change with the records of a source.

    They do not change with the place of its files."""
    content = source.content() if isinstance(source, HasContent) else repr(source)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
