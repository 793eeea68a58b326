"""The one record schema, and the only way from bytes of unknown quality to a uint8 RGB picture.

A record is a dict: "id" str, "image" uint8 [H, W, 3], "captions" list of {"text", "language"}, and
where known "boxes", "words", "qa", "source", "license", "scene". Separate because every source, the
loader and `vilg data` share it. What to do about a bad record (skip, count, stop) is left to the
loader."""

import dataclasses
import hashlib
import io
import json
import re
import struct
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

LANGUAGES = ("zh", "en")
FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
)  # a closed list: Pillow's EPS reader starts Ghostscript
MAX_PIXELS = 50_000_000
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3007\U00020000-\U000323af]")

Record = dict[str, Any]


class BadRecord(Exception):
    """A record that cannot be used: its id and the reason. The loader counts, names and skips
    it.
    """

    def __init__(self, id: str, reason: str):
        super().__init__(id, reason)
        self.id, self.reason = id, reason

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}"


class Lazy:
    """For a frozen dataclass that opens its files in cached properties: pickled, it is its fields
    only.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]


def detect_language(text: str) -> str:
    """ "zh" if the text has a Han character, else "en"."""
    return "zh" if HAN.search(text) else "en"


def draw(*numbers: int) -> int:
    """64 pseudo-random bits that depend on nothing but the numbers (blake2b), so that host count
    and order do not matter.
    """
    return int.from_bytes(
        hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest(),
        "little",
    )


def caption(id: str, text: Any, language: str | None = None) -> dict[str, str]:
    """One caption of the schema from str or UTF-8 bytes; BadRecord if it is empty, not UTF-8 or in
    an unknown language.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRecord(id, f"caption is not UTF-8: {error}") from None
    if not isinstance(text, str):
        raise BadRecord(id, f"caption is {type(text).__name__}, not text")
    if not text.strip():
        raise BadRecord(id, "caption is empty")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadRecord(id, f"caption is not UTF-8: {error}") from None
    language = language or detect_language(text)
    if language not in LANGUAGES:
        raise BadRecord(id, f"caption language {language!r} is not one of {', '.join(LANGUAGES)}")
    return {"text": text.strip(), "language": language}


def captions(id: str, items: Any) -> list[dict[str, str]]:
    """Captions of the schema from strings, bytes or {"text", "language"} items, one or a list of
    them.
    """
    if isinstance(items, str | bytes | Mapping):
        items = [items]
    if not isinstance(items, list | tuple) or not items:
        raise BadRecord(id, "no captions")
    return [
        caption(id, i.get("text"), i.get("language")) if isinstance(i, Mapping) else caption(id, i)
        for i in items
    ]


def validate(record: Record) -> Record:
    """The record itself if it obeys the schema, else BadRecord with the first thing that is
    wrong.
    """
    id = record.get("id")
    if not isinstance(id, str) or not id:
        raise BadRecord(str(id), "id is not a non-empty string")
    image = record.get("image")
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
    ):
        seen = (
            f"{image.dtype} {image.shape}"
            if isinstance(image, np.ndarray)
            else type(image).__name__
        )
        raise BadRecord(id, f"image is {seen}, not uint8 [H, W, 3]")
    if not image.size:
        raise BadRecord(id, f"image of size {image.shape[1]}x{image.shape[0]} is empty")
    items = record.get("captions")
    if not isinstance(items, list) or not items:
        raise BadRecord(id, "no captions")
    for item in items:
        if not isinstance(item, Mapping) or item.get("language") not in LANGUAGES:
            raise BadRecord(
                id,
                f"caption {item!r} is not {{text, language}} with language"
                f" {' or '.join(LANGUAGES)}",
            )
        caption(id, item.get("text"), item["language"])
    for name in ("source", "license"):
        if not isinstance(record.get(name) or "", str):
            raise BadRecord(id, f"{name} {record[name]!r} is not text")
    boxes = record.get("boxes") or ()
    if not isinstance(boxes, Sequence):
        raise BadRecord(id, f"boxes are {boxes!r}, not a list")
    for box in boxes:
        xyxy: Any = box.get("xyxy") if isinstance(box, Mapping) else None
        numbers = (
            isinstance(xyxy, Sequence | np.ndarray)
            and len(xyxy) == 4
            and all(isinstance(v, Real) for v in xyxy)
        )
        if not numbers or not (0 <= xyxy[0] <= xyxy[2] <= 1 and 0 <= xyxy[1] <= xyxy[3] <= 1):
            raise BadRecord(id, f"box {box!r} is not {{xyxy in [0, 1], label}}")
    return record


def decode_image(id: str, data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8 [H, W, 3] from the bytes of a picture file: upright (EXIF), on white where transparent,
    first frame, 8 bits.

    BadRecord for bytes that are no picture of FORMATS, corrupt, truncated, empty, or of more than
    `max_pixels` pixels, which is read from the header before anything is decoded (a 12,000 x 12,000
    bomb would take 705 MiB)."""
    if not data:
        raise BadRecord(id, "image file is empty")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = picture.size
        if width * height > max_pixels:
            raise BadRecord(
                id,
                f"image of {width}x{height} pixels is over the limit of {max_pixels} (decompression"
                " bomb?)",
            )
        if not width or not height:
            raise BadRecord(id, f"image of size {width}x{height} is empty")
        picture.load()
        return np.asarray(to_rgb(id, upright(picture)))
    except (BadRecord, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadRecord(
            id, f"image is over the limit of {max_pixels} pixels (decompression bomb?): {error}"
        ) from None
    except UnidentifiedImageError:
        raise BadRecord(
            id, f"image cannot be decoded: it is no picture of {', '.join(FORMATS)}"
        ) from None
    # decoders of untrusted bytes raise anything: OSError, SyntaxError, ValueError, struct.error,
    # ...
    except Exception as error:
        raise BadRecord(id, f"image cannot be decoded: {type(error).__name__}: {error}") from None


def upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation asks; unreadable EXIF counts as none."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a broken EXIF block must not cost a good picture
        return picture


def to_rgb(id: str, picture: Image.Image) -> Image.Image:
    """An 8-bit RGB picture from any mode: alpha on white, 16-bit grey by its high byte; float
    pixels have no range: BadRecord.
    """
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise BadRecord(id, f"image of mode {picture.mode} has values outside 16 bits")
        return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise BadRecord(id, "image has floating-point pixels of unknown range")
    if picture.has_transparency_data:
        layers = picture.convert("RGBA")
        white = Image.new("RGBA", layers.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layers).convert("RGB")
    return picture.convert("RGB")


def to_json(record: Record) -> str:
    """Every field of a record but its image, as one line of JSON with sorted keys; numpy values
    become plain ones.
    """
    fields = {name: value for name, value in record.items() if name != "image"}
    return json.dumps(
        fields, ensure_ascii=False, sort_keys=True, default=lambda value: value.tolist()
    )


def encode_png(image: np.ndarray) -> bytes:
    """The picture as lossless PNG bytes."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG", compress_level=6)
    return out.getvalue()


def fit(image: np.ndarray, size: int, key: int | None = None) -> np.ndarray:
    """uint8 [size, size, 3]: the largest square of the picture, resized with Lanczos (antialiased
    when shrinking).

    The square is the centre one, or with `key` (64 random bits of the record's own) at a place that
    the key picks."""
    height, width = image.shape[:2]
    if height == width == size:
        return image
    left, top, side = square(height, width, key)
    part = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(part)
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(part)).resize((size, size), Image.Resampling.LANCZOS)
    )


def square(height: int, width: int, key: int | None = None) -> tuple[int, int, int]:
    """(left, top, side) in pixels of the square that `fit` takes out of a picture."""
    side = min(height, width)
    spare = max(height, width) - side
    offset = spare // 2 if key is None else key % (spare + 1)
    return (offset, 0, side) if width > height else (0, offset, side)
