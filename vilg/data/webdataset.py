"""The `webdataset` data source, and its writer: tar files whose members KEY.jpg, KEY.json and
KEY.txt make up a record.

Tars come from strangers: members are read at their byte offsets, which also gives random access,
and no member is ever extracted."""

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
    """The places of a record's members."""

    key: str
    tar: int  # the number of the tar
    members: dict[str, tuple[int, int]] = field(default_factory=dict)  # extension -> offset, size
    repeated: str = ""  # an extension that two members have


@dataclass(frozen=True)
class WebDataset(Lazy):
    """The records of one or more tars.

    Captions are the JSON's `captions` or `caption`, else the text file."""

    path: str  # a tar, a directory of tars, or a glob

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
        """One entry for each run of regular members with the same key, in the tars' order. Errors:
        UserError for a file that is no tar, or a tar that is cut.
        """
        entries: list[Entry] = []
        for number, name in enumerate(self.tars):
            try:
                with tarfile.open(name, "r:") as tar:
                    for member in tar:
                        self._add_member(entries, number, member)
                if os.path.getsize(name) < tar.offset:
                    raise tarfile.ReadError("unexpected end of data")
            except (tarfile.TarError, OSError, ValueError) as error:
                raise UserError(
                    f"webdataset path={name!r}: not a whole, uncompressed tar ({error}); fetch it"
                    " again"
                ) from None
        return entries

    @staticmethod
    def _add_member(entries: list[Entry], number: int, member: tarfile.TarInfo) -> None:
        """Adds a member of tar `number` to the last entry, or to a new one for another key."""
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
            entries[-1].repeated = extension
        entries[-1].members[extension.lower()] = (member.offset_data, member.size)

    def content(self) -> str:
        """A digest of the keys, offsets and sizes of all members."""
        index = [(entry.key, entry.tar, sorted(entry.members.items())) for entry in self.entries]
        return "webdataset:" + hashlib.sha256(json.dumps(index).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> Record:
        entry = self.entries[i]
        if entry.repeated:
            raise BadRecord(entry.key, f"two members end in .{entry.repeated}")
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
        """The bytes of a member. A tar is opened for each read, because thousands of open tars
        would use up the file descriptors.
        """
        offset, size = place
        try:
            with open(self.tars[entry.tar], "rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise BadRecord(entry.key, f"{self.tars[entry.tar]} cannot be read: {error}") from None


class WebDatasetWriter:
    """A context manager that writes records as tars of at most `per_file` records, with members
    000000123.png and 000000123.json.
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

    def __exit__(self, *error: object) -> None:
        self._close()
