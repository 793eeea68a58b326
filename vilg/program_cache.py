"""The cache of compiled programs from one process to the next, so that the second `vilg sample` of
a run compiles nothing.

JAX's persistent compilation cache stores the programs. This file sets its directory and its largest
size in bytes, and handles the errors of a directory that cannot be used. `vilg plan` stores the
results of its compilations separately (planning/compilation.py)."""

import contextlib
import hashlib
import os
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import jax

from vilg.paths import cache_folder

LIMIT = 2 * 2**30  # bytes; JAX drops the programs that were not used for longest


def keep_programs() -> None:
    """Stores compiled programs in $VILG_CACHE/xla (~/.cache/vilg/xla), unless JAX already has a
    directory for them.

    Where they cannot be stored, one line on standard error says so, and programs are compiled."""
    told = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if told:  # by JAX_COMPILATION_CACHE_DIR, say
        return
    tell = _teller()
    try:
        place = cache_folder("xla") / _processor()
        place.mkdir(parents=True, exist_ok=True)
        _mend(place)
    except (OSError, RuntimeError) as error:
        tell(error)
        return
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_compilation_cache_max_size", LIMIT)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _tell_of_errors(tell)


def _processor() -> str:
    """A name for the kind of this machine's processor.

    Programs for a CPU use the instructions that the processor has, but JAX's key leaves them out,
    and machines with different processors share a home directory."""
    kind = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kind += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}"


def _mend(place: Path) -> None:
    """Removes the files that a process left when it was killed while writing: a program without its
    time of use, at which JAX would fail for every program that it stores later.

    Errors: OSError where nothing can be written. A directory that another process works in is left
    to that process."""
    with contextlib.suppress(filelock.Timeout), filelock.FileLock(place / ".lockfile", timeout=1):
        there = {"-cache": set(), "-atime": set()}
        for file in os.listdir(place):
            if file.endswith(tuple(there)):
                there[file[-6:]].add(file[:-6])
        for kind, names in there.items():
            for name in names - (there["-cache"] & there["-atime"]):
                (place / (name + kind)).unlink(missing_ok=True)


def _teller() -> Callable[[object], None]:
    """A function that prints the first error that it gets, and no other."""
    told: list[object] = []

    def tell(error: object) -> None:
        if not told:
            said = " ".join(str(error).split())
            print(
                f"vilg: compiled programs are not kept ({said}); VILG_CACHE names another place",
                file=sys.stderr,
            )
        told.append(error)

    return tell


def _tell_of_errors(tell: Callable[[object], None]) -> None:
    """Passes the warnings of JAX about its cache, one for every program, to `tell`."""
    show = warnings.showwarning

    def tell_or_show(message: Any, *arguments: Any, **named: Any) -> None:
        if "persistent compilation cache entry" in str(message):
            tell(message)
        else:
            show(message, *arguments, **named)

    warnings.showwarning = tell_or_show
