"""Makes the emoji data set: four art styles with Chinese and English names, rendered and grouped by
concept.

Preparation needs npm, the network and resvg_py; a run that trains on the data set needs none of
them. The directory holds `shards` (one record an emoji and style), `emoji.jsonl` (a row for each
record, in their order) and `LICENSES.md`."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vilg.data.emoji import INDEX, STYLES, wordings_of
from vilg.data.emoji_concepts import SKIN_TONES, grouped, without_skin_tones
from vilg.data.emoji_packages import NAMES, PACKS, fetch, member, read_names, read_pack
from vilg.data.records import decode_image, encode_png
from vilg.data.replace import replacing
from vilg.data.shards import ShardsWriter
from vilg.types import UserError


def render(document: str, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The picture of an SVG document on white, centred, with a longer side of `size` pixels. System
    fonts are not used.
    """
    picture = rasterized(document, width=size)
    if picture.shape[0] > size:
        picture = rasterized(document, height=size)
    if picture.shape == (size, size, 3):
        return picture
    canvas = np.full((size, size, 3), 255, np.uint8)
    top, left = (size - picture.shape[0]) // 2, (size - picture.shape[1]) // 2
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


def rasterized(
    document: str, width: int | None = None, height: int | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture of an SVG document, of a width or a height in pixels."""
    import resvg_py

    png = resvg_py.svg_to_bytes(
        svg_string=document, width=width, height=height, skip_system_fonts=True
    )
    return decode_image("svg", bytes(png))


def prepare_emoji(
    out: str | os.PathLike[str],
    size: int = 64,
    styles: tuple[str, ...] = tuple(STYLES),
    cache: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, object]:
    """Writes the emoji data set to the directory `out`, which appears whole or not at all, and
    returns its counts. The same packages always give the same data set.

    `cache` is the directory of npm packages (by default ~/.cache/vilg/npm). Errors: UserError for
    an unknown style, a size outside 8..512, an existing `out`, or where npm, the network or
    resvg_py is missing."""
    unknown = [style for style in styles if style not in PACKS]
    if unknown or not styles:
        raise UserError(f"styles={tuple(styles)!r}: name one or more of {', '.join(PACKS)}")
    if not 8 <= size <= 512:
        raise UserError(f"size={size}: give 8 to 512 pixels")
    try:
        import resvg_py  # noqa: F401
    except ImportError:
        raise UserError(
            "data prepare emoji: needs resvg_py to draw SVG; pip install resvg_py"
        ) from None
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vilg" / "npm"
    with replacing(out) as folder:
        store = Path(cache) if cache else default
        names = read_names({section: fetch(package, store) for section, package in NAMES.items()})
        files = {style: fetch(PACKS[style], store) for style in PACKS if style in styles}
        counts = write(folder, names, files, size, log)
        (folder / "LICENSES.md").write_text(licenses(files), "utf-8")
    return counts


def write(
    folder: Path,
    names: dict[str, dict[str, Any]],
    files: dict[str, Path],
    size: int,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Draws all pictures, then writes the shards and the index.

    Emoji with equal pixels belong to one group, so the groups are known after all are drawn."""
    packs = {style: read_pack(file) for style, file in files.items()}
    license = {style: member(file, "info.json")["license"]["spdx"] for style, file in files.items()}
    groups, rows, pictures = grouped(names), [], []
    first_with: dict[tuple[str, bytes], str] = {}  # style and pixels -> id
    blank = 0
    for number, (id, style) in enumerate(named_pictures(names, packs)):
        if number % 2000 == 0:
            log(f"emoji: {number} pictures drawn")
        image = render(packs[style][id]["svg"], size)
        if image.min() == 255:
            blank += 1
            continue
        twin = first_with.setdefault((style, hashlib.sha256(image.tobytes()).digest()), id)
        groups.join(id, twin)
        row = {
            "id": id,
            "style": style,
            "category": packs[style][id]["category"],
            "duplicate_of": twin if twin != id else "",
            "skin_tone": without_skin_tones(id) != id or id in SKIN_TONES,
        }
        rows.append({**row, **names[id]})
        pictures.append(encode_png(image))
    with ShardsWriter(folder) as shards:
        for row, image in zip(rows, pictures, strict=True):
            row["root"] = groups.root(row["id"])
            shards.write(
                {
                    "id": f"{row['id']}/{row['style']}",
                    "image": image,
                    "captions": wordings_of(row),
                    "source": f"emoji/{row['style']}",
                    "license": license[row["style"]],
                    "emoji": {
                        key: row[key] for key in ("id", "style", "root", "category", "duplicate_of")
                    },
                }
            )
    lines = (json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    (folder / INDEX).write_text("".join(lines), "utf-8")
    return {
        "records": len(rows),
        "emoji": len({row["id"] for row in rows}),
        "concepts": len({row["root"] for row in rows}),
        "styles": {style: sum(row["style"] == style for row in rows) for style in files},
        "duplicates": sum(bool(row["duplicate_of"]) for row in rows),
        "blank": blank,
        "size": size,
    }


def named_pictures(
    names: dict[str, dict[str, object]], packs: dict[str, dict[str, dict[str, str]]]
) -> Iterator[tuple[str, str]]:
    """(id, style) of every picture of an emoji that has names, in the order of ids."""
    for id in sorted(names):
        yield from ((id, style) for style in packs if id in packs[style])


def licenses(files: dict[str, Path]) -> str:
    """The text of LICENSES.md: the authors and licences of the pictures and names."""
    lines = [
        "# Licences of these pictures and names",
        "",
        "| style | package | author | licence |",
        "|---|---|---|---|",
    ]
    for style, file in files.items():
        info = member(file, "info.json")
        author, license = info["author"], info["license"]
        lines.append(
            f"| {style} | {PACKS[style]} | {author['name']} ({author.get('url', '')}) |"
            f" [{license['title']}]({license['url']}) |"
        )
    lines += [
        "",
        (
            f"Names and keywords: Unicode CLDR ({', '.join(NAMES.values())}), Unicode-3.0,"
            " https://www.unicode.org/license.txt"
        ),
    ]
    return "\n".join(
        [*lines, "The pictures were drawn from SVG on white; nothing else was changed.", ""]
    )
