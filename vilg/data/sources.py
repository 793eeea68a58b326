"""The table of data sources, and how a config section or a `KIND:PATH` of the command line becomes
one.

A source is a frozen, picklable dataclass with `len` and random access; its files are opened at
first use. `source[i]` is a record (see records.py) or raises BadRecord. `content()`, where a source
has it, says what its records are regardless of where they lie."""

import hashlib
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from vilg.config import build, lookup
from vilg.data.emoji import Emoji
from vilg.data.folder import Folder
from vilg.data.records import BadRecord, Record
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
        """Record i, the same every time; BadRecord if it cannot be used."""
        ...


SOURCES: dict[str, type] = {
    "synthetic": Synthetic,
    "emoji": Emoji,
    "folder": Folder,
    "shards": Shards,
    "webdataset": WebDataset,
    "tfds": TFDS,
}
PATH_FIELDS = {
    "synthetic": "split",
    "tfds": "dataset",
}  # what PATH means in KIND:PATH, where it is not the field `path`


def build_source(section: Mapping[str, Any], path: str) -> Any:
    """The source of a config section `{"name": KIND, fields ...}`; `path` is where the section
    lies, for messages.
    """
    return build(lookup(SOURCES, section.get("name"), f"{path}.name"), section, path)


def parse_source(text: str, **fields: Any) -> Any:
    """The source that `KIND:PATH` or `KIND:PATH,field=value,...` names; `fields` are further
    fields, already of their types.

    A value is read as its field's type; a list's items are joined by "+". Errors: UserError for an
    unknown kind or field."""
    kind, colon, rest = text.partition(":")
    if not colon:
        raise UserError(
            f"source={text!r}: give KIND:PATH, where KIND is one of {', '.join(SOURCES)}"
        )
    cls = lookup(SOURCES, kind, "source kind")
    pattern = r"(?:^|,)(?=[a-z_]+=)"
    path, *pairs = re.split(pattern, rest)
    section: dict[str, Any] = {PATH_FIELDS.get(kind, "path"): path} if path else {}
    hints = typing.get_type_hints(cls)
    for pair in pairs:
        name, _, value = pair.partition("=")
        section[name] = literal(value, hints.get(name))
    return build(cls, {**section, **fields}, f"source {kind}")


def literal(text: str, hint: Any) -> Any:
    """The text as the field's type; what cannot be read as it stays text, for `build` to refuse by
    name.
    """
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(literal(part, inner) for part in text.split("+"))
    if hint is bool and text in ("true", "false", "True", "False"):
        return text in ("true", "True")
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            return text
    return text


def caption_texts(source: Any, count: int | None = 20_000) -> Iterator[str]:
    """The captions of at most `count` records spread evenly over a source (None: all), bad records
    left out: what a text model is trained on."""
    size = len(source)
    number = size if count is None else min(count, size)
    for k in range(number):
        try:
            record = source[k * size // number]
        except BadRecord:
            continue
        yield from (caption["text"] for caption in record["captions"])


def fingerprint(source: Any) -> str:
    """16 hex digits that change with the records of a source, and not with where its files lie."""
    content = source.content() if hasattr(source, "content") else repr(source)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
