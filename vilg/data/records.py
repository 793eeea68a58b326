"""The schema of records, and the decoder from bytes of unknown quality to a uint8 RGB picture.

A record is a dict: "id" str, "image" uint8 [H, W, 3], "captions" list of {"text", "language"}, and
where known "boxes", "words", "qa", "source", "license", "scene". Every source, the loader and
`vilg data` share the schema. This module only reports a bad record; the loader decides what to do
about it (skip, count, stop)."""

import dataclasses
import hashlib
import io
import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vilg.types import UserError

LANGUAGES = ("zh", "en")
# a closed list, because Pillow's EPS reader starts Ghostscript
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3007\U00020000-\U000323af]")

Record = dict[str, Any]


class BadRecord(Exception):
    """A record that cannot be used: its id and the reason. The loader counts and skips it."""

    def __init__(self, id: str, reason: str):
        super().__init__(id, reason)
        self.id, self.reason = id, reason

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}"


@dataclass(frozen=True)
class Lazy:
    """A frozen dataclass that opens its files in cached properties. A pickle of it holds the fields
    only, not the open files.
    """

    def __getstate__(self) -> dict[str, object]:
        names = {field.name for field in dataclasses.fields(self)}
        return {name: value for name, value in vars(self).items() if name in names}


def detect_language(text: str) -> str:
    """ "zh" if the text has a Han character, else "en"."""
    return "zh" if HAN.search(text) else "en"


def check_known_languages(languages: Iterable[str]) -> None:
    """Errors: UserError for a language that is none of LANGUAGES."""
    for language in languages:
        if language not in LANGUAGES:
            raise UserError(f"language={language!r}: known languages are {', '.join(LANGUAGES)}")


def random_bits(*numbers: int) -> int:
    """64 pseudo-random bits that depend on nothing but the numbers (blake2b), so that the number of
    hosts and the order of calls do not matter.
    """
    return int.from_bytes(
        hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest(),
        "little",
    )


def caption(id: str, text: object, language: str | None = None) -> dict[str, str]:
    """One caption of the schema from str or UTF-8 bytes, of the record `id`. Errors: BadRecord if
    the text is empty, not UTF-8 or in an unknown language.
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


def captions(id: str, items: object) -> list[dict[str, str]]:
    """Captions of the schema from one or a list of strings, bytes or {"text", "language"} items, of
    the record `id`. Errors: BadRecord.
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
    """The record itself. Errors: BadRecord with the first fault, if it does not obey the schema."""
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
        kind = type(image).__name__
        form = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else kind
        raise BadRecord(id, f"image is {form}, not uint8 [H, W, 3]")
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
        if not isinstance(box, Mapping) or not is_box(box.get("xyxy")):
            raise BadRecord(id, f"box {box!r} is not {{xyxy in [0, 1], label}}")
    return record


def is_box(xyxy: object) -> bool:
    """Whether this is (left, top, right, bottom) in shares of a picture."""
    if not isinstance(xyxy, Sequence | np.ndarray) or len(xyxy) != 4:
        return False
    if not all(isinstance(value, Real) for value in xyxy):
        return False
    left, top, right, bottom = (float(value) for value in xyxy)
    return 0 <= left <= right <= 1 and 0 <= top <= bottom <= 1


def decode_image(id: str, data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The first frame of a picture file as uint8 [H, W, 3]: upright by its EXIF orientation, on
    white where it is transparent.

    Errors: BadRecord (of the record `id`) for bytes that are no picture of FORMATS, corrupt,
    truncated, empty, or of more than `max_pixels` pixels. The number of pixels is read from the
    header before anything is decoded: a 12,000 x 12,000 bomb would take 705 MiB."""
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
    # decoders of untrusted bytes raise any exception, such as SyntaxError or struct.error
    except Exception as error:
        raise BadRecord(id, f"image cannot be decoded: {type(error).__name__}: {error}") from None


def upright(picture: Image.Image) -> Image.Image:
    """The picture, turned by its EXIF orientation where that can be read."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a picture with a broken EXIF block is still good
        return picture


def to_rgb(id: str, picture: Image.Image) -> Image.Image:
    """An 8-bit RGB picture from any mode: transparent pixels on white, 16-bit grey by its high
    byte. Errors: BadRecord for float pixels, whose range is unknown.
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
    """Every field of a record but its image, as one line of JSON with sorted keys. NumPy values
    become numbers and lists.
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


def to_square(image: np.ndarray, size: int, bits: int | None = None) -> np.ndarray:
    """The largest square of a picture as uint8 [size, size, 3], resized with Lanczos, which is
    antialiased when shrinking.

    The square is the centre one; with `bits`, random bits of the record, they choose its place."""
    height, width = image.shape[:2]
    if height == width == size:
        return image
    left, top, side = largest_square(height, width, bits)
    part = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(part)
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(part)).resize((size, size), Image.Resampling.LANCZOS)
    )


def largest_square(height: int, width: int, bits: int | None = None) -> tuple[int, int, int]:
    """(left, top, side) in pixels of the square that `to_square` cuts out of a picture."""
    side = min(height, width)
    spare = max(height, width) - side
    offset = spare // 2 if bits is None else bits % (spare + 1)
    return (offset, 0, side) if width > height else (0, offset, side)
