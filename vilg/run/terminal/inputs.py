"""Pictures that a person names on the command line."""

import glob
from pathlib import Path

from vilg.types import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


def find_images(pattern: str, field: str = "images") -> list[Path]:
    """The picture files of a directory, a file or a glob, sorted. Errors: UserError, which names
    the option `field`, if there are none.
    """
    place = Path(pattern)
    if place.is_dir():
        pictures = [p for p in place.iterdir() if p.suffix.lower() in SUFFIXES]
        sampled = (place / "samples.jsonl").exists()  # `vilg sample` adds a contact sheet, grid.png
        paths = sorted(p for p in pictures if not (sampled and p.name == "grid.png"))
    else:
        paths = sorted(Path(p) for p in glob.glob(pattern, recursive=True) if Path(p).is_file())
    if not paths:
        raise UserError(
            f"{field}={pattern!r}: no picture there; give a directory, a file or a glob"
        )
    return paths
