"""Files that verbs write: tried before the work, so that no result is lost for a wrong path."""

from pathlib import Path

from vilg.types import UserError


def output_file(out: str, example: str, option: str = "out") -> Path:
    """The path of --out (or of another option), its directory made and the file known to be
    writable. Errors: UserError for a directory, OSError for the rest."""
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
    """ "1 picture", "2 pictures"."""
    return f"{n} {thing}{'' if n == 1 else 's'}"
