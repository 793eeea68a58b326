"""Paths that may be gs://. One function makes them, and code that needs a file on this machine asks
for a local copy.

The file is separate from all others because workdirs, checkpoints, data and outputs use it. Local
paths stay pathlib's, with pathlib's speed; a path with a scheme is etils' epath.Path, which has the
same methods (gs:// needs `pip install 'vilg[tpu]'`, which brings gcsfs)."""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec.config
from etils import epath

from vilg.types import UserError

Place = Path | epath.Path
SCHEMES = ("gs://",)


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path has a scheme. Errors: UserError for a scheme that is not in SCHEMES."""
    text = os.fspath(path)
    if "://" not in text:
        return False
    if not text.startswith(SCHEMES):
        raise UserError(f"path={text!r}: must be local or begin with {' or '.join(SCHEMES)}")
    return True


def as_path(path: str | os.PathLike) -> Place:
    """The path with pathlib's methods, local or remote. Errors: UserError for a scheme that cannot
    be read."""
    if not is_remote(path):
        return Path(path)
    _prepare(os.fspath(path))
    return epath.Path(path)


def _prepare(path: str) -> None:
    """Checks that gcsfs, with which etils opens gs://, is installed, and turns off its cache of
    listings, since other hosts write to the same directories."""
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"path={path!r}: needs gcsfs; run pip install 'vilg[tpu]'")
    for name in ("gs", "gcs"):
        fsspec.config.conf.setdefault(name, {}).setdefault("use_listings_cache", False)


def cache_folder(name: str) -> Path:
    """The directory of the user's cache for one purpose: $VILG_CACHE/NAME, or ~/.cache/vilg/NAME.

    Errors: RuntimeError where there is no home directory."""
    return Path(os.environ.get("VILG_CACHE") or Path.home() / ".cache" / "vilg") / name


def local(path: str | os.PathLike) -> Path:
    """A path on this machine with the same content: the path itself, or a copy of the remote file
    or directory under $VILG_CACHE (~/.cache/vilg), updated by sizes and times. For a remote path
    that does not exist, the returned path does not exist either."""
    return _copied(os.fspath(path)) if is_remote(path) else Path(path)


@functools.cache
def _copied(path: str) -> Path:
    """The local copy of a remote path, compared with the remote path once a process."""
    remote = as_path(path)
    key = hashlib.sha256(os.fspath(remote).encode()).hexdigest()[:16]
    copy = cache_folder("remote") / key / remote.name
    if remote.is_dir():
        copy.mkdir(parents=True, exist_ok=True)
        for file in files(remote):
            _fetch(file, copy / file.relative_to(remote))
    elif remote.exists():
        _fetch(remote, copy)
    else:
        copy.unlink(missing_ok=True)
    return copy


def _fetch(remote: Any, copy: Path) -> None:
    """Copies a remote file, unless the stamp of the copy has the remote file's size and time."""
    stat = remote.stat()
    stamp_file = copy.with_name(f".{copy.name}.stamp")
    stamp = json.dumps([stat.length, stat.mtime])
    if copy.exists() and stamp_file.exists() and stamp_file.read_text() == stamp:
        return
    copy.parent.mkdir(parents=True, exist_ok=True)
    for target, content in ((copy, remote.read_bytes()), (stamp_file, stamp.encode())):
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_bytes(content)
        temporary.replace(target)


def files(directory: Any) -> Iterator[Any]:
    """Every file below a directory."""
    for path in sorted(directory.iterdir()):
        yield from files(path) if path.is_dir() else (path,)


def copy_tree(source: Path, target: Place) -> None:
    """Copies a local file or directory to `target`, replacing files that exist there."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        return
    for file in files(source):
        copy_tree(file, target / file.relative_to(source).as_posix())


@contextlib.contextmanager
def written_to(path: str | os.PathLike) -> Iterator[Path]:
    """A local path to write a file or directory to: the path itself or, for a remote path, a
    temporary path. Its content is copied to the remote path when the block ends, also after an
    error, so that finished files are not lost."""
    if not is_remote(path):
        yield Path(path)
        return
    target = as_path(path)
    with tempfile.TemporaryDirectory(prefix="vilg-") as folder:
        local_path = Path(folder) / target.name
        try:
            yield local_path
        finally:
            if local_path.exists():
                copy_tree(local_path, target)
            shutil.rmtree(local_path, ignore_errors=True)


def relative(path: str, base: str | os.PathLike) -> str:
    """`path` relative to the directory `base`, so that both can move together; the whole path
    where they are not on one file system."""
    if is_remote(path) != is_remote(base):
        return path if is_remote(path) else str(Path(path).resolve())
    if not is_remote(path):
        return os.path.relpath(Path(path).resolve(), Path(base).resolve())
    (bucket, inner), (other, outer) = (
        p.removeprefix("gs://").partition("/")[::2] for p in (path, os.fspath(base))
    )
    return posixpath.relpath(f"/{inner}", f"/{outer}") if bucket == other else path


def joined(base: str | os.PathLike, path: str) -> str:
    """The path that `relative` made relative to `base`, joined to `base` again."""
    if is_remote(path) or os.path.isabs(path):
        return path
    if not is_remote(base):
        return str((Path(base) / path).resolve())
    bucket, _, outer = os.fspath(base).removeprefix("gs://").partition("/")
    return f"gs://{bucket}{posixpath.normpath(posixpath.join('/', outer, path))}"
