"""Output that appears whole or not at all: directories of data sets, and single files."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vilg.types import UserError


@contextmanager
def replacing(out: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty temporary directory beside `out`, which becomes `out` when the block ends without an
    exception, and is removed when it does not.

    Errors: UserError before any work, if `out` exists and is not an empty directory."""
    target = Path(os.path.abspath(out))
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"out={str(out)!r}: exists already; remove it or name another directory")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """A temporary path beside `out`, whose file becomes `out` when the block ends without an
    exception, and is removed when it does not.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
