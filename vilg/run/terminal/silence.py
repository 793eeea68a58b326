"""Lines that break the silence of a command that computes for long without printing.

A thread watches standard error. When nothing was written for SILENCE seconds it prints the stage
(vilg/stage.py) and how long the stage has lasted; in one stage the pauses grow, so that an hour of
compilation is not a thousand lines. A progress bar writes all the time, so nothing is printed
beside it."""

import contextlib
import threading
import time
from collections.abc import Iterator

from vilg import stage
from vilg.run.terminal.standard_error import Unread

SILENCE = 1.5  # seconds without a line after which the stage is printed
GROWTH = 3.0  # factor by which the pauses grow within a stage
LONGEST = 60.0  # seconds of the longest pause


@contextlib.contextmanager
def broken_silence(verb: str, stream: Unread, quiet: bool) -> Iterator[None]:
    """Within this context the stage is printed to `stream` after a silence, unless `quiet`."""
    stage.enter("starting")
    if quiet:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(verb, stream, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(verb: str, stream: Unread, ended: threading.Event) -> None:
    """Prints a line after each silence, until the event is set."""
    printed, pause = stage.current(), SILENCE
    while not ended.wait(min(0.2, SILENCE / 4)):
        now, present = time.monotonic(), stage.current()
        if present.began != printed.began:
            printed, pause = present, SILENCE
        if now - stream.written >= pause:
            stream.write(f"vilg {verb}: {present.line(now)}\n")
            stream.flush()
            pause = min(LONGEST, pause * GROWTH)
