"""Makes the emoji data set: four art styles from npm packages, Chinese and English names from CLDR,
rendered and grouped by concept.

Separate from the `emoji` source because it needs npm, the network and resvg_py, and a trained run
needs none of them. What it writes is `shards` (one record an emoji and style), `emoji.jsonl` (a row
a record, in their order) and `LICENSES.md`."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vilg.data.emoji import INDEX, STYLES, wordings_of
from vilg.data.records import decode_image, encode_png
from vilg.data.replace import replacing
from vilg.data.shards import ShardsWriter
from vilg.types import UserError

PACKS = {  # style -> package
    "noto": "@iconify-json/noto@1.2.9",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "openmoji": "@iconify-json/openmoji@1.2.29",
    "fluent_flat": "@iconify-json/fluent-emoji-flat@1.2.6",
}
NAMES = {
    "annotations": "cldr-annotations-full@48.2.0",
    "annotationsDerived": "cldr-annotations-derived-full@48.2.0",
}
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
PERSON = {"1f468": "1f9d1", "1f469": "1f9d1"}  # man, woman -> person


def fetch(package: str, cache: Path) -> Path:
    """The package's tar in the cache, fetched by `npm pack` if it is not there; UserError without
    npm or network.
    """
    file = cache / (package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")
    if file.is_file():
        return file
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "data prepare emoji: needs npm to fetch the emoji packages; install Node.js, or train"
            " on synthetic instead"
        )
    cache.mkdir(parents=True, exist_ok=True)
    command = [
        npm,
        "pack",
        package,
        "--silent",
        "--ignore-scripts",
        "--pack-destination",
        str(cache),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not file.is_file():
        lines = (done.stderr or done.stdout).strip().splitlines() or [
            f"exit code {done.returncode}"
        ]
        raise UserError(
            f"data prepare emoji: npm could not fetch {package} ({lines[-1]}); check the network"
            " and try again"
        )
    return file


def member(file: Path, name: str) -> Any:
    """The JSON of one member of an npm tar, read in place; a UserError if the tar is broken or
    lacks it.
    """
    try:
        with tarfile.open(file) as tar:
            return json.load(tar.extractfile(f"package/{name}"))  # type: ignore[arg-type]
    except (
        tarfile.TarError,
        OSError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise UserError(
            f"data prepare emoji: {file} is broken ({error}); delete it and try again"
        ) from None


def emoji_id(points: str) -> str:
    """Lower-case hex code points joined by "-", without the variation selector fe0f, so that every
    spelling has one id.
    """
    return "-".join(
        f"{int(point, 16):04x}" for point in points.split("-") if int(point, 16) != 0xFE0F
    )


def read_names(files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """id -> {"char", "en", "zh", "en_keywords", "zh_keywords"} of everything that CLDR names in
    both languages.
    """
    found: dict[str, dict[str, Any]] = {}
    for section, file in files.items():
        for language in ("en", "zh"):
            for char, entry in member(file, f"{section}/{language}/annotations.json")[section][
                "annotations"
            ].items():
                name = (entry.get("tts") or [""])[0]
                if name:
                    row = found.setdefault(
                        emoji_id("-".join(f"{ord(c):x}" for c in char)), {"char": char}
                    )
                    row[language], row[f"{language}_keywords"] = name, entry.get("default", [])
    return {id: row for id, row in found.items() if "en" in row and "zh" in row}


def read_pack(file: Path) -> dict[str, dict[str, str]]:
    """id -> {"svg", "category"} of one iconify package, following its aliases; its extras beyond
    emoji are left out.
    """
    icons, chars = member(file, "icons.json"), member(file, "chars.json")
    groups = member(file, "metadata.json").get("categories", {})
    category = {
        name: group
        for group, names in groups.items()
        for name in names
        if not group.startswith("Extras")
    }
    found = {}
    for points, name in chars.items():
        icon = resolve(icons, name)
        group = next((category[alias] for alias in (name, icon["name"]) if alias in category), None)
        if group is not None:
            found[emoji_id(points)] = {"svg": svg(icon), "category": group.replace(" & ", " ")}
    return found


def resolve(icons: dict[str, Any], name: str) -> dict[str, Any]:
    """An icon's properties: its own, over its alias parents', over the package's; flips and turns
    accumulate along the aliases.
    """
    chain, flips, turns = [], {"hFlip": False, "vFlip": False}, 0
    while name not in icons["icons"]:
        alias = icons["aliases"][name]
        chain.append(alias)
        turns += alias.get("rotate", 0)
        flips = {flip: on ^ alias.get(flip, False) for flip, on in flips.items()}
        name = alias["parent"]
    size = {
        key: icons.get(key, default)
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    }
    icon = {**size, **icons["icons"][name], "name": name}
    for alias in reversed(chain):
        icon |= {key: value for key, value in alias.items() if key in size}
    return {**icon, **flips, "rotate": turns % 4}


def svg(icon: dict[str, Any]) -> str:
    """The SVG document of resolved icon properties."""
    left, top, width, height = (icon[key] for key in ("left", "top", "width", "height"))
    body, x, y = icon["body"], left + width / 2, top + height / 2
    steps = [f"rotate({90 * icon['rotate']})"] if icon["rotate"] else []
    if icon["hFlip"] or icon["vFlip"]:
        steps.append(f"scale({-1 if icon['hFlip'] else 1} {-1 if icon['vFlip'] else 1})")
    if steps:
        body = (
            f'<g transform="translate({x} {y}) {" ".join(steps)} translate({-x} {-y})">{body}</g>'
        )
    links = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return (
        f'<svg {links} width="{width}" height="{height}" viewBox="{left} {top} {width}'
        f' {height}">{body}</svg>'
    )


def render(document: str, size: int) -> np.ndarray:
    """uint8 [size, size, 3]: the picture on white, its longer side `size`, centred. No system font
    or style takes part.
    """
    import resvg_py

    drawn = decode_image(
        "svg", bytes(resvg_py.svg_to_bytes(svg_string=document, width=size, skip_system_fonts=True))
    )
    if drawn.shape[0] > size:
        drawn = decode_image(
            "svg",
            bytes(resvg_py.svg_to_bytes(svg_string=document, height=size, skip_system_fonts=True)),
        )
    if drawn.shape == (size, size, 3):
        return drawn
    canvas = np.full((size, size, 3), 255, np.uint8)
    top, left = (size - drawn.shape[0]) // 2, (size - drawn.shape[1]) // 2
    canvas[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return canvas


class Groups:
    """Emoji that must stay on one side of a split: union-find, each group named by its shortest,
    then smallest member.
    """

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def root(self, id: str) -> str:
        """The group's name."""
        while (parent := self.parent.get(id, id)) != id:
            id = parent
        return id

    def join(self, a: str, b: str) -> None:
        """Puts two emoji into one group."""
        a, b = self.root(a), self.root(b)
        if a != b:
            first, second = sorted((a, b), key=lambda id: (id.count("-"), id))
            self.parent[second] = first


def bare(id: str) -> str:
    """The id without skin tones (a tone alone is itself)."""
    return "-".join(point for point in id.split("-") if point not in SKIN_TONES) or id


def concept(id: str) -> str:
    """The id without skin tones, gender signs and the sign that turns a person round; man and woman
    become person.
    """
    plain = bare(id)
    for sign in ("-200d-2640", "-200d-2642", "-200d-27a1"):
        plain = plain.replace(sign, "")
    return (
        "-".join(PERSON.get(point, point) for point in plain.split("-"))
        if "-200d-" in plain
        else plain
    )


def group(names: dict[str, dict[str, Any]]) -> Groups:
    """Variants of a concept joined, by code points and by English name ("handshake: light skin
    tone, ..." has other code points).
    """
    groups, by_name = Groups(), {row["en"]: id for id, row in names.items()}
    for id, row in names.items():
        groups.join(id, concept(id))
        plain = by_name.get(toneless(row["en"])) if bare(id) != id else None
        if plain:
            groups.join(id, plain)
    return groups


def toneless(name: str) -> str:
    """An English name without its skin tones: "man: light skin tone, red hair" -> "man: red
    hair".
    """
    head, colon, tail = name.partition(": ")
    kept = [part for part in tail.split(", ") if part and not part.endswith("skin tone")]
    return head + colon + ", ".join(kept) if kept else head


def prepare_emoji(
    out: str | os.PathLike[str],
    size: int = 64,
    styles: tuple[str, ...] = tuple(STYLES),
    cache: str = "",
    log: Callable[[str], Any] = lambda line: None,
) -> dict[str, Any]:
    """Writes the emoji data set to the directory `out` (atomically, deterministic) and returns its
    counts.

    `cache` keeps the npm packages (by default ~/.cache/vilg/npm). Errors: UserError for an unknown
    style, a size outside 8..512, an existing `out`, or where npm, the network or resvg_py is
    missing."""
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
    names: dict[str, Any],
    files: dict[str, Path],
    size: int,
    log: Callable[[str], Any],
) -> dict[str, Any]:
    """Draws everything, then writes the shards and the index: the groups are known only when all
    pixels are.
    """
    packs = {style: read_pack(file) for style, file in files.items()}
    license = {style: member(file, "info.json")["license"]["spdx"] for style, file in files.items()}
    groups, rows, pictures = group(names), [], []
    first: dict[tuple[str, bytes], str] = {}
    blank = 0
    for number, (id, style) in enumerate(every(names, packs)):
        if number % 2000 == 0:
            log(f"emoji: {number} pictures drawn")
        image = render(packs[style][id]["svg"], size)
        if image.min() == 255:
            blank += 1
            continue
        twin = first.setdefault((style, hashlib.sha256(image.tobytes()).digest()), id)
        groups.join(id, twin)
        row = {
            "id": id,
            "style": style,
            "category": packs[style][id]["category"],
            "duplicate_of": twin if twin != id else "",
        }
        rows.append({**row, "skin_tone": bare(id) != id or id in SKIN_TONES, **names[id]})
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


def every(
    names: dict[str, Any], packs: dict[str, dict[str, dict[str, str]]]
) -> Iterator[tuple[str, str]]:
    """(id, style) of every picture of a named emoji, by id."""
    for id in sorted(names):
        yield from ((id, style) for style in packs if id in packs[style])


def licenses(files: dict[str, Path]) -> str:
    """Who drew what and under which licence, to stay with the pictures."""
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
