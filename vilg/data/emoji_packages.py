"""npm packages of emoji: pictures in four art styles from Iconify, and Chinese and English names
from CLDR. They are fetched with `npm pack`, kept in a cache, and read in place."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from vilg.types import UserError

# style -> package of its pictures
PACKS = {
    "noto": "@iconify-json/noto@1.2.9",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "openmoji": "@iconify-json/openmoji@1.2.29",
    "fluent_flat": "@iconify-json/fluent-emoji-flat@1.2.6",
}
# section of CLDR's annotations -> package of the names
NAMES = {
    "annotations": "cldr-annotations-full@48.2.0",
    "annotationsDerived": "cldr-annotations-derived-full@48.2.0",
}


def fetch(package: str, cache: Path) -> Path:
    """The package's tar in the cache; `npm pack` fetches it if it is not there. Errors: UserError
    without npm, or where the network does not answer.
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
    options = ["--silent", "--ignore-scripts", "--pack-destination", str(cache)]
    done = subprocess.run([npm, "pack", package, *options], capture_output=True, text=True)
    if done.returncode or not file.is_file():
        lines = (done.stderr or done.stdout).strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise UserError(
            f"data prepare emoji: npm could not fetch {package} ({reason}); check the network"
            " and try again"
        )
    return file


def member(file: Path, name: str) -> dict[str, Any]:
    """The JSON object of one member of an npm tar, read in place. Errors: UserError if the tar is
    broken or lacks the member.
    """
    try:
        with tarfile.open(file) as tar:
            content = tar.extractfile(f"package/{name}")
            if content is None:
                raise TypeError(f"{name} is no file")
            return json.load(content)
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"data prepare emoji: {file} is broken ({error}); delete it and try again"
        ) from None


def emoji_id(points: str) -> str:
    """The id of an emoji: lower-case hex code points joined by "-", without the variation selector
    fe0f, so that all spellings have the same id.
    """
    return "-".join(
        f"{int(point, 16):04x}" for point in points.split("-") if int(point, 16) != 0xFE0F
    )


def read_names(files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """The names of every emoji that CLDR names in both languages.

    The result maps an id to {"char", "en", "zh", "en_keywords", "zh_keywords"}."""
    rows: dict[str, dict[str, Any]] = {}
    for section, file in files.items():
        for language in ("en", "zh"):
            content = member(file, f"{section}/{language}/annotations.json")
            for char, entry in content[section]["annotations"].items():
                name = (entry.get("tts") or [""])[0]
                if name:
                    id = emoji_id("-".join(f"{ord(c):x}" for c in char))
                    row = rows.setdefault(id, {"char": char})
                    row[language], row[f"{language}_keywords"] = name, entry.get("default", [])
    return {id: row for id, row in rows.items() if "en" in row and "zh" in row}


def read_pack(file: Path) -> dict[str, dict[str, str]]:
    """id -> {"svg", "category"} of one Iconify package, whose aliases are followed. Its pictures
    that are no emoji ("Extras") are left out.
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
    """An icon's properties: those of the aliases override those of the icon, which override the
    package's. Flips and rotations add up along the aliases.
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
    """The SVG document of an icon, from what `resolve` gave."""
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
