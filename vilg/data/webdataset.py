"""The `webdataset` data source: tar files whose members KEY.jpg, KEY.json, KEY.txt make up a
record; and its writer.

Separate because tars come from strangers: they are indexed by byte offset for random access and
nothing is ever extracted."""

import functools
import glob
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vilg.data.records import BadRecord, Lazy, Record, captions, decode_image, encode_png, to_json
from vilg.paths import local
from vilg.types import UserError

IMAGES = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff")


@dataclass
class Entry:
    """Where a record's members lie: extension -> (offset, size) in the tar."""

    key: str
    tar: int
    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    twice: str = ""


@dataclass(frozen=True)
class WebDataset(Lazy):
    """`path` is a tar, a directory of tars, or a glob. Captions are the JSON's `captions` or
    `caption`, else the text file.
    """

    path: str

    def __post_init__(self):
        if not self.tars:
            raise UserError(
                f"webdataset path={self.path!r}: no .tar there; give a tar, a directory or a glob"
                " (unpack .tar.gz)"
            )

    @functools.cached_property
    def tars(self) -> list[str]:
        """The tar files, sorted."""
        place = str(local(self.path))
        pattern = os.path.join(glob.escape(place), "*.tar") if os.path.isdir(place) else place
        return (
            [place]
            if os.path.isfile(place)
            else sorted(file for file in glob.glob(pattern) if os.path.isfile(file))
        )

    @functools.cached_property
    def entries(self) -> list[Entry]:
        """One entry a run of regular members with the same key, in the tars' order; UserError for a
        tar that is cut or no tar.
        """
        entries: list[Entry] = []
        for number, name in enumerate(self.tars):
            try:
                with tarfile.open(name, "r:") as tar:
                    for member in tar:
                        self._note(entries, number, member)
                if os.path.getsize(name) < tar.offset:
                    raise tarfile.ReadError("unexpected end of data")
            except (tarfile.TarError, OSError, ValueError) as error:
                raise UserError(
                    f"webdataset path={name!r}: not a whole, uncompressed tar ({error}); fetch it"
                    " again"
                ) from None
        return entries

    @staticmethod
    def _note(entries: list[Entry], number: int, member: tarfile.TarInfo) -> None:
        if not member.isfile() or member.issparse():
            return
        directory, _, base = member.name.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not dot or not stem:
            return
        key = f"{directory}/{stem}" if directory else stem
        if not entries or entries[-1].key != key or entries[-1].tar != number:
            entries.append(Entry(key, number))
        if extension.lower() in entries[-1].members:
            entries[-1].twice = extension
        entries[-1].members[extension.lower()] = (member.offset_data, member.size)

    def content(self) -> str:
        """A digest of the index: keys, offsets and sizes."""
        index = [(entry.key, entry.tar, sorted(entry.members.items())) for entry in self.entries]
        return "webdataset:" + hashlib.sha256(json.dumps(index).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> Record:
        entry = self.entries[i]
        if entry.twice:
            raise BadRecord(entry.key, f"two members end in .{entry.twice}")
        image = next((entry.members[kind] for kind in IMAGES if kind in entry.members), None)
        if image is None:
            raise BadRecord(entry.key, f"no picture among {', '.join(entry.members)}")
        fields: dict[str, Any] = {}
        if "json" in entry.members:
            try:
                fields = json.loads(self._read(entry, entry.members["json"]).decode("utf-8"))
            except ValueError as error:
                raise BadRecord(entry.key, f"JSON is corrupt: {error}") from None
            if not isinstance(fields, dict):
                raise BadRecord(entry.key, "JSON is not an object")
        texts = fields.get("captions") or fields.pop("caption", None)
        if not texts and "txt" in entry.members:
            texts = self._read(entry, entry.members["txt"])
        id = str(fields.get("id") or entry.key)
        pixels = decode_image(id, self._read(entry, image))
        return {**fields, "id": id, "image": pixels, "captions": captions(id, texts)}

    def _read(self, entry: Entry, place: tuple[int, int]) -> bytes:
        offset, size = place
        try:
            with open(
                self.tars[entry.tar], "rb"
            ) as file:  # opened anew: thousands of tars would use up the descriptors
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise BadRecord(entry.key, f"{self.tars[entry.tar]} cannot be read: {error}") from None


class WebDatasetWriter:
    """Writes records as tars of at most `per_file` records: 000000123.png and 000000123.json. Use
    as a context manager.
    """

    def __init__(self, path: Path, per_file: int = 8192):
        self.path, self.per_file, self.count = path, per_file, 0
        path.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "WebDatasetWriter":
        self.file: tarfile.TarFile | None = None
        return self

    def write(self, record: Record) -> None:
        """Adds one record."""
        if self.count % self.per_file == 0:
            self._close()
            self.file = tarfile.open(
                self.path / f"records-{self.count // self.per_file:05d}.tar",
                "w",
                format=tarfile.USTAR_FORMAT,
            )
        self._add("png", encode_png(record["image"]))
        self._add("json", to_json(record).encode("utf-8"))
        self.count += 1

    def _add(self, extension: str, data: bytes) -> None:
        member = tarfile.TarInfo(f"{self.count:09d}.{extension}")
        member.size = len(data)
        assert self.file is not None
        self.file.addfile(member, io.BytesIO(data))

    def _close(self) -> None:
        if self.file is not None:
            self.file.close()

    def __exit__(self, *error: Any) -> None:
        self._close()
