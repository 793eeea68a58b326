"""The `folder` data source, and its writer: picture files, and a `captions.jsonl` with a line for
each picture.

People make this layout by hand. A path in captions.jsonl that leads out of the folder makes a bad
record."""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from vilg.data.records import BadRecord, Lazy, Record, captions, decode_image, encode_png, to_json
from vilg.paths import local
from vilg.types import UserError

CAPTIONS = "captions.jsonl"


@dataclass(frozen=True)
class Folder(Lazy):
    """Pictures beside a captions.jsonl. A line has `image` (the path relative to the folder),
    `captions`, and any other field of the schema.
    """

    path: str  # directory with captions.jsonl, to which its pictures' paths are relative

    def __post_init__(self):
        if not (local(self.path) / CAPTIONS).is_file():
            raise UserError(
                f"folder path={self.path!r}: there is no {CAPTIONS} in it; write one, with a line"
                " of JSON for each picture"
            )

    @functools.cached_property
    def lines(self) -> list[bytes]:
        """The non-empty lines of captions.jsonl, as bytes."""
        data = (local(self.path) / CAPTIONS).read_bytes().removeprefix(b"\xef\xbb\xbf")
        return [line for line in data.split(b"\n") if line.strip()]

    @functools.cached_property
    def root(self) -> Path:
        """The folder with every link resolved."""
        return local(self.path).resolve()

    def content(self) -> str:
        """A digest of captions.jsonl."""
        return "folder:" + hashlib.sha256(b"\n".join(self.lines)).hexdigest()

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, i: int) -> Record:
        line = f"{CAPTIONS}:{i + 1}"
        try:
            entry = json.loads(self.lines[i].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BadRecord(line, f"line is not UTF-8: {error}") from None
        except (ValueError, RecursionError) as error:
            raise BadRecord(line, f"line is not JSON: {error}") from None
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise BadRecord(line, "line has no image path")
        id = str(entry.get("id") or entry["image"])
        try:
            file = (self.root / entry["image"]).resolve()
            inside = file.is_relative_to(self.root)
            data = file.read_bytes() if inside else b""
        except (OSError, ValueError) as error:
            raise BadRecord(id, f"image file cannot be read: {error}") from None
        if not inside:
            raise BadRecord(id, f"image path {entry['image']!r} leads out of the folder")
        return {
            **entry,
            "id": id,
            "image": decode_image(id, data),
            "captions": captions(id, entry.get("captions")),
        }


class FolderWriter:
    """A context manager that writes records as a folder: images/000000123.png and a line each."""

    def __init__(self, path: Path):
        self.path, self.count = path, 0
        (path / "images").mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "FolderWriter":
        self.file = open(self.path / CAPTIONS, "w", encoding="utf-8")
        return self

    def write(self, record: Record) -> None:
        """Adds one record."""
        name = f"images/{self.count:09d}.png"
        (self.path / name).write_bytes(encode_png(record["image"]))
        self.file.write(
            json.dumps({"image": name, **json.loads(to_json(record))}, ensure_ascii=False) + "\n"
        )
        self.count += 1

    def __exit__(self, *error: object) -> None:
        self.file.close()
