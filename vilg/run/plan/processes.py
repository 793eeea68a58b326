"""Layouts compiled at the same time, each in a process of its own: a compiler may die or take all
memory.
"""

import concurrent.futures
import multiprocessing
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from vilg.planning.chips import GIB
from vilg.planning.row import Row, Task, empty_row, row_of, say

DIED = (
    "the compiler's process died: out of memory (then give --jobs=1), or by a crash of its own,"
    " which libtpu's log in /tmp/tpu_logs tells (a stack overflow: give --flags=tpu_large_stack)"
)


def compile_all(task: Task, layouts: Sequence[str], jobs: int) -> list[Row]:
    """A row for each layout, of which `jobs` are compiled at a time (0: by cores and free memory).
    Lines on standard error say what is compiled.
    """
    jobs = jobs or max(1, min(len(layouts), os.cpu_count() or 1, int(free_memory() / (6 * GIB))))
    rows = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(row_apart, task, layout): layout for layout in layouts}
        try:
            for done in concurrent.futures.as_completed(waiting):
                layout, row = waiting[done], done.result()
                kept = ", kept" if row["cached"] else ""
                say(layout, f"{row['status']} after {row['compile_seconds']:.0f} s{kept}")
                rows.append(row)
        except BaseException:  # interrupted; a compiler would notice only when it is done
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.kill()
            raise
    return rows


def row_apart(task: Task, layout: str) -> Row:
    """The row of one layout from a process of its own; a pool of several processes that loses one
    would lose all.
    """
    say(layout, f"lowering the {task.program} program for {task.topology}")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=context, initializer=end_with_parent
    ) as pool:
        try:
            return pool.submit(row_of, task, layout).result()
        except concurrent.futures.process.BrokenProcessPool:
            return empty_row(layout, task) | {"status": "error", "error": DIED}


def end_with_parent() -> None:
    """Makes this process end when its parent does: otherwise a compilation would go on, for minutes
    and gigabytes, after the command that wanted it was killed.
    """

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def free_memory() -> float:
    """Bytes of memory that this machine can still give; 8 GiB where the system does not say."""
    if not Path("/proc/meminfo").exists():
        return 8.0 * GIB
    available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(available[1]) * 1024.0 if available else 8.0 * GIB
