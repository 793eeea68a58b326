"""A contact sheet of pictures with their captions, and the search for a font with Chinese glyphs.

Neither Pillow nor matplotlib contains such a font. Where none is found, Chinese characters are
written as their code points, and the sheet says so."""

import functools
import os
import random
import subprocess
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from vilg.data.records import HAN, BadRecord, Record, validate
from vilg.data.sources import Source
from vilg.types import UserError

FONT_VARIABLE = "VILG_FONT"
FONT_PLACES = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/STHeiti Light.ttc",
    "C:/Windows/Fonts/msyh.ttc",
)
NO_FONT = (
    f"no font with Chinese glyphs found (install fonts-noto-cjk or set {FONT_VARIABLE}): Chinese is"
    " shown as code points"
)


def writes_chinese(path: str) -> bool:
    """Whether a font file has glyphs for Chinese.

    The box for a missing glyph looks the same for all characters."""
    try:
        font = ImageFont.truetype(path, 16)
    except OSError:
        return False
    glyphs = set()
    for character in "红绿\U0010fffd":
        canvas = Image.new("L", (32, 32))
        ImageDraw.Draw(canvas).text((0, 0), character, fill=255, font=font)
        glyphs.add(canvas.tobytes())
    return len(glyphs) == 3


@functools.cache
def chinese_font() -> str | None:
    """The path of a font with Chinese glyphs, from $VILG_FONT, FONT_PLACES or fontconfig; None if
    there is none. Errors: UserError if $VILG_FONT has no such glyphs.
    """
    chosen = os.environ.get(FONT_VARIABLE)
    if chosen:
        if not writes_chinese(chosen):
            raise UserError(
                f"{FONT_VARIABLE}={chosen!r}: no font file with Chinese glyphs; name another or"
                " unset it"
            )
        return chosen
    try:
        listed = subprocess.run(
            ["fc-list", ":lang=zh", "file"], capture_output=True, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        listed = ""
    found = sorted(line.strip().rstrip(":") for line in listed.splitlines())
    return next(
        (path for path in (*FONT_PLACES, *found) if Path(path).is_file() and writes_chinese(path)),
        None,
    )


def legible(text: str) -> str:
    """The text; without a Chinese font, each Han character is its code point in brackets."""
    return text if chinese_font() else HAN.sub(lambda match: f"[{ord(match[0]):x}]", text)


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font(size: int) -> Font:
    """A font of a size in pixels: a Chinese one if there is one, else Pillow's."""
    path = chinese_font()
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


def wrap(text: str, width: int, face: Font) -> list[str]:
    """The text in lines of at most `width` pixels, broken at spaces, and between characters where a
    word is longer than a line.
    """
    lines, line = [], ""
    for word in text.replace(" ", " \0").split("\0"):
        if face.getlength(line + word.rstrip()) <= width:
            line += word
            continue
        if line:
            lines.append(line.rstrip())
            line = ""
        for character in word:
            if line and face.getlength(line + character) > width:
                lines.append(line)
                line = ""
            line += character
    return [*lines, line.rstrip()] if line.strip() else lines


def sheet(records: list[Record], columns: int = 6, cell: int = 160, lines: int = 6) -> Image.Image:
    """The contact sheet of records. Each picture is in a square of `cell` pixels, enlarged without
    smoothing if it is smaller, with its first Chinese and first English caption below in at most
    `lines` lines."""
    face, step, margin = font(12), 15, 8
    width = columns * (cell + margin) + margin
    texts = [caption_lines(record, cell, face, lines) for record in records]
    height = cell + max(map(len, texts)) * step + margin
    rows = -(-len(records) // columns)
    note = wrap(NO_FONT, width - 2 * margin, face) if not chinese_font() else []
    page = Image.new("RGB", (width, rows * (height + margin) + margin + step * len(note)), "white")
    pen = ImageDraw.Draw(page)
    for number, record in enumerate(records):
        left = margin + number % columns * (cell + margin)
        top = margin + number // columns * (height + margin)
        picture = Image.fromarray(record["image"])
        scale = cell / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(
            size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
        )
        page.paste(picture, (left + (cell - size[0]) // 2, top + (cell - size[1]) // 2))
        for k, line in enumerate(texts[number]):
            pen.text((left, top + cell + k * step + 2), line, fill="black", font=face)
    for k, line in enumerate(note):
        pen.text((margin, page.height - step * (len(note) - k)), line, fill="black", font=face)
    return page


def caption_lines(record: Record, width: int, face: Font, lines: int) -> list[str]:
    """The first Chinese and the first English caption in at most `lines` lines, half of them for
    each; a caption that is cut ends with an ellipsis.
    """
    blocks = []
    for language in ("zh", "en"):
        text = next((c["text"] for c in record["captions"] if c["language"] == language), None)
        if text:
            blocks.append(wrap(legible(text), width, face))
    share = max(1, lines // max(1, len(blocks)))
    return [
        line
        for block in blocks
        for line in (
            block if len(block) <= share else [*block[: share - 1], block[share - 1] + " …"]
        )
    ]


def show(
    source: Source,
    out: str | os.PathLike[str],
    n: int = 36,
    columns: int = 6,
    cell: int = 160,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes a contact sheet of `n` records, sampled with `seed`, as a PNG, and returns {"shown",
    "bad", "note"}.

    `note` is a line for the user where no Chinese font was found, else empty. Errors: UserError for
    a name that does not end in .png, for sizes that are too small, or if no sampled record is
    good."""
    if Path(out).suffix.lower() != ".png":
        raise UserError(f"out={str(out)!r}: give a name that ends in .png")
    if min(n, columns) < 1 or cell < 16:
        raise UserError(f"n={n} columns={columns} cell={cell}: give at least 1, 1 and 16")
    columns = min(columns, n)
    records, bad = [], {}
    for i in sorted(random.Random(seed).sample(range(len(source)), min(n, len(source)))):
        try:
            records.append(validate(source[i]))
        except BadRecord as error:
            bad[error.id] = error.reason
    if not records:
        raise UserError(
            f"data show: none of {len(bad)} drawn records is good; the first:"
            f" {next(iter(bad.items()), 'none')}"
        )
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    sheet(records, columns, cell).save(out)
    return {"shown": len(records), "bad": bad, "note": "" if chinese_font() else NO_FONT}
