"""Files that verbs write: tried before the work, so that a wrong path costs no result."""

from pathlib import Path

from vilg.types import UserError


def output_file(out: str, example: str, option: str = "out") -> Path:
    """The path of --out (or of another option), whose directory is made and whose file can be
    written. Errors: UserError for a directory, OSError for a path that cannot be written.
    """
    path = Path(out)
    if path.is_dir():
        raise UserError(f"{option}={out!r}: is a directory; give a {example} file")
    path.parent.mkdir(parents=True, exist_ok=True)
    existed = path.exists()
    path.open("a").close()
    if not existed:
        path.unlink()
    return path


def counted(n: int, thing: str) -> str:
    """A number with its noun: "1 picture", "2 pictures"."""
    return f"{n} {thing}{'' if n == 1 else 's'}"
