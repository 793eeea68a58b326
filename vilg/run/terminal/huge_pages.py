"""Huge pages for glibc's malloc, for which the process has to be started again."""

import contextlib
import os
import sys

HUGE_PAGES = "glibc.malloc.hugetlb=1"


def ask_for_huge_pages() -> None:
    """Starts this process again with huge pages for glibc's malloc, unless GLIBC_TUNABLES already
    has that setting.

    XLA on CPU takes its buffers from malloc anew for every step, and touching them 4 KiB at a time
    was a quarter of a training step (experiments/results/README.md). malloc reads its tunables
    before Python starts, so that the environment of this process comes too late."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or "glibc.malloc.hugetlb" in tunables:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, HUGE_PAGES]))
    with contextlib.suppress(OSError):  # if it fails, the verb is only slower
        os.execv(sys.executable, sys.orig_argv)
