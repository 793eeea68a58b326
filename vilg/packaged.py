"""The experiments that vilg brings along, by name: "ernie_vilg", or "ablations/noise".

Separate because both the command line and experiment files refer to experiments by name. A wheel
holds the files in vilg/experiments/, a clone in experiments/ beside vilg/."""

from pathlib import Path

from vilg.config import suggestion
from vilg.types import UserError

PLACES = (Path(__file__).parent / "experiments", Path(__file__).parent.parent / "experiments")


def packaged() -> dict[str, Path]:
    """The file of each packaged experiment by its name, such as "ablations/noise"."""
    folder = next((place for place in PLACES if place.is_dir()), None)
    if folder is None:
        return {}
    files = sorted(file for file in folder.rglob("*.py") if file.stem != "__init__")
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def experiment_path(path: str, beside: str = "") -> Path:
    """The file of an experiment: a path, else a packaged experiment's name.

    With `beside` (a file) the path is relative to that file's directory, and where it leads to no
    file, the packaged experiment of the same file name is meant, so that a copy of a packaged
    experiment finds what the original refers to. The folder of a packaged experiment may be left
    out: "noise" is "ablations/noise".

    Errors: UserError where there is no such file or name, or the file is not Python."""
    target = Path(beside).parent / path if beside else Path(path)
    known = packaged()
    by_stem = {file.stem: file for file in known.values()}
    if not target.is_file():
        name = Path(path).stem if beside else path
        if name in known or name in by_stem:
            return known.get(name, by_stem.get(name, target))
        stem = Path(path).stem
        near = suggestion(stem, {**by_stem, **known}, lambda found: f"the packaged {found}")
        raise UserError(
            f"config={path!r}: there is no such file{f' ({target})' if beside else ''} and no"
            f" packaged experiment of that name; {near}packaged are {', '.join(known) or 'none'}"
        )
    if target.suffix != ".py":
        raise UserError(
            f"config={path!r}: is no Python file; give one, or a packaged experiment's name such as"
            " ernie_vilg:tiny"
        )
    return target
