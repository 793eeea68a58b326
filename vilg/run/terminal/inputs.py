"""Files that a person names on the command line."""

import glob
from pathlib import Path

from vilg.types import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


def find_images(pattern: str, field: str = "images") -> list[Path]:
    """The picture files of a directory, a file or a glob, sorted. Errors: UserError, naming the
    option, if there are none.
    """
    place = Path(pattern)
    if place.is_dir():
        ours = (
            {"grid.png"} if (place / "samples.jsonl").exists() else set()
        )  # the sheet of `vilg sample`
        paths = sorted(
            p for p in place.iterdir() if p.suffix.lower() in SUFFIXES and p.name not in ours
        )
    else:
        paths = sorted(Path(p) for p in glob.glob(pattern, recursive=True) if Path(p).is_file())
    if not paths:
        raise UserError(
            f"{field}={pattern!r}: no picture there; give a directory, a file or a glob"
        )
    return paths
