"""Huge pages for glibc's malloc, asked for by starting the process again."""

import contextlib
import os
import sys

HUGE_PAGES = "glibc.malloc.hugetlb=1"


def ask_for_huge_pages() -> None:
    """Starts this process again with glibc's malloc asking for huge pages, unless the environment
    already says which it wants.

    XLA on CPU takes its buffers from malloc anew for every step, and touching them 4 KiB at a time
    was a quarter of a training step (experiments/results/README.md). malloc reads its tunables
    before Python starts, so the environment must be set before."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or "glibc.malloc.hugetlb" in tunables:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, HUGE_PAGES]))
    with contextlib.suppress(OSError):  # slower, then
        os.execv(sys.executable, sys.orig_argv)
