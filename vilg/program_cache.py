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

LIMIT = 2 * 2**30  # bytes; beyond them JAX deletes the least recently used programs


def keep_programs() -> None:
    """Stores compiled programs in $VILG_CACHE/xla (~/.cache/vilg/xla), unless JAX already has a
    directory for them.

    Where they cannot be stored, one line on standard error says so, and programs are compiled."""
    directory = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if directory:  # set by JAX_COMPILATION_CACHE_DIR, for example
        return
    report = _first_error_reporter()
    try:
        folder = cache_folder("xla") / _processor()
        folder.mkdir(parents=True, exist_ok=True)
        _mend(folder)
    except (OSError, RuntimeError) as error:
        report(error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", LIMIT)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _report_cache_warnings(report)


def _processor() -> str:
    """A name for the kind of this machine's processor.

    Programs for a CPU use the instructions that the processor has, but JAX's key leaves them out,
    and machines with different processors share a home directory."""
    kind = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kind += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}"


def _mend(folder: Path) -> None:
    """Removes the files that a process left when it was killed while writing: a program without its
    time of use, at which JAX would fail for every program that it stores later.

    Errors: OSError where nothing can be written. A directory that another process works in is left
    to that process."""
    with contextlib.suppress(filelock.Timeout), filelock.FileLock(folder / ".lockfile", timeout=1):
        names_of = {"-cache": set(), "-atime": set()}  # suffix of a file -> names of programs
        for file in os.listdir(folder):
            if file.endswith(tuple(names_of)):
                names_of[file[-6:]].add(file[:-6])
        complete = names_of["-cache"] & names_of["-atime"]
        for suffix, names in names_of.items():
            for name in names - complete:
                (folder / (name + suffix)).unlink(missing_ok=True)


def _first_error_reporter() -> Callable[[object], None]:
    """A function that prints the first error that it gets, and no other."""
    errors: list[object] = []

    def report(error: object) -> None:
        if not errors:
            reason = " ".join(str(error).split())
            print(
                f"vilg: compiled programs are not stored ({reason}); set VILG_CACHE to another"
                " directory",
                file=sys.stderr,
            )
        errors.append(error)

    return report


def _report_cache_warnings(report: Callable[[object], None]) -> None:
    """Passes the warnings of JAX about its cache, one for every program, to `report`."""
    show = warnings.showwarning

    def report_or_show(message: Any, *arguments: Any, **named: Any) -> None:
        if "persistent compilation cache entry" in str(message):
            report(message)
        else:
            show(message, *arguments, **named)

    warnings.showwarning = report_or_show
