"""The `shards` data source, and its writer: ArrayRecord files, for data sets that are too large for
one file a picture.

A record is b"VILG", a version byte, the length of the JSON part (uint32, little endian), the JSON
(every field but the image), and the bytes of a picture file. `dataset.json` beside the files names
them and is written last. TensorFlow is not needed."""

import functools
import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from vilg.data.records import BadRecord, Lazy, Record, captions, decode_image, encode_png, to_json
from vilg.paths import local
from vilg.types import UserError

MAGIC, VERSION = b"VILG", 1
HEAD = struct.Struct("<4sBI")
INDEX = "dataset.json"


def pack(record: Record) -> bytes:
    """A record as bytes. The picture becomes lossless PNG; an image that is bytes already is stored
    as the picture file that it is.
    """
    image = record["image"]
    text = to_json(record).encode("utf-8")
    return (
        HEAD.pack(MAGIC, VERSION, len(text))
        + text
        + (image if isinstance(image, bytes) else encode_png(image))
    )


def unpack(id: str, data: bytes) -> Record:
    """The record that `pack` wrote. Errors: BadRecord(id, ...) for other bytes."""
    if len(data) < HEAD.size or data[:4] != MAGIC:
        raise BadRecord(id, "not a record that vilg wrote")
    _, version, length = HEAD.unpack_from(data)
    if version != VERSION:
        raise BadRecord(id, f"record has version {version}; this vilg reads {VERSION}")
    try:
        fields = json.loads(data[HEAD.size : HEAD.size + length].decode("utf-8"))
    except ValueError as error:
        raise BadRecord(id, f"record's JSON is corrupt: {error}") from None
    if not isinstance(fields, dict):
        raise BadRecord(id, "record's JSON is not an object")
    id = str(fields.get("id") or id)
    image = decode_image(id, data[HEAD.size + length :])
    return {**fields, "id": id, "image": image, "captions": captions(id, fields.get("captions"))}


@dataclass(frozen=True)
class Shards(Lazy):
    """A directory that ShardsWriter wrote."""

    path: str  # directory that `vilg data convert --to=shards:DIR` wrote

    def __post_init__(self):
        if not (local(self.path) / INDEX).is_file():
            raise UserError(
                f"shards path={self.path!r}: there is no {INDEX} in it; write shards with vilg data"
                " convert"
            )

    @functools.cached_property
    def index(self) -> dict[str, Any]:
        """The content of dataset.json. Errors: UserError if ShardsWriter did not write it, or if a
        file that it names is missing.
        """
        try:
            index = json.loads((local(self.path) / INDEX).read_text("utf-8"))
            good = (
                index["format"] == "vilg-shards"
                and index["version"] == VERSION
                and bool(index["files"])
            )
        except (ValueError, KeyError, TypeError):
            good, index = False, {}
        if not good:
            raise UserError(
                f"shards path={self.path!r}: its {INDEX} is not of vilg-shards version {VERSION};"
                " convert the data again"
            )
        for name in index["files"]:
            if not (local(self.path) / name).is_file():
                raise UserError(
                    f"shards path={self.path!r}: the file {name} is missing; copy the whole"
                    " directory again"
                )
        return index

    @functools.cached_property
    def rows(self) -> ArrayRecordDataSource:
        """The open files. Errors: UserError if they are broken, or do not hold the number of
        records that dataset.json says.
        """
        try:
            rows = ArrayRecordDataSource(
                [str(local(self.path) / name) for name in self.index["files"]]
            )
            count = len(rows)
        except Exception as error:  # ArrayRecord raises RuntimeError or ValueError from C++
            raise UserError(
                f"shards path={self.path!r}: cannot be opened ({error}); copy or convert the data"
                " again"
            ) from None
        if count != self.index["records"]:
            raise UserError(
                f"shards path={self.path!r}: {count} records where {INDEX} says"
                f" {self.index['records']}; copy them again"
            )
        return rows

    def content(self) -> str:
        """The digest of all records, which the writer put into dataset.json."""
        return "shards:" + self.index["sha256"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Record:
        try:
            data = self.rows[i]
        except Exception as error:  # a corrupt chunk: RuntimeError from C++
            raise BadRecord(f"shards:{i}", f"record cannot be read: {error}") from None
        return unpack(f"shards:{i}", data)


class ShardsWriter:
    """A context manager that writes records as ArrayRecord files of at most `per_file` records."""

    def __init__(self, path: Path, per_file: int = 8192):
        self.path, self.per_file, self.count = path, per_file, 0
        self.files: list[str] = []
        self.file: ArrayRecordWriter | None = None
        self.digest = hashlib.sha256()
        path.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "ShardsWriter":
        return self

    def write(self, record: Record) -> None:
        """Adds one record."""
        file = self.file
        if file is None or self.count % self.per_file == 0:
            if file is not None:
                file.close()
            self.files.append(f"records-{len(self.files):05d}.array_record")
            file = ArrayRecordWriter(str(self.path / self.files[-1]), "group_size:1")
        data = pack(record)
        self.digest.update(data)
        file.write(data)
        self.file = file
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self.file is not None:
            self.file.close()
        if kind is None:
            index = {
                "format": "vilg-shards",
                "version": VERSION,
                "records": self.count,
                "files": self.files,
            }
            index["sha256"] = self.digest.hexdigest()
            (self.path / INDEX).write_text(json.dumps(index, indent=1) + "\n", "utf-8")
