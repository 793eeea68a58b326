"""The files of a job: templates filled in, printed or written."""

import shlex
from collections.abc import Mapping
from pathlib import Path

import jinja2

Files = dict[str, str]  # {path below --out: text}


def render(folder: str, variables: Mapping[str, object]) -> Files:
    """The templates of a folder with the variables filled in."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vilg.run.launch", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"quote": shlex.quote, "command": shlex.join}
    names = sorted(name for name in environment.list_templates() if name.startswith(f"{folder}/"))
    return {
        name.partition("/")[2]: environment.get_template(name).render(variables) for name in names
    }


def show(files: Files) -> None:
    """Prints every file under its name."""
    print("\n".join(f"=== {name} ===\n{text}" for name, text in files.items()), end="")


def write(files: Files, folder: Path) -> None:
    """Writes the files, scripts as executables, and prints their paths."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
        print(path)
