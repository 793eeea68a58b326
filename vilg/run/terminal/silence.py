"""Lines that break the silence of a command that computes for long without printing.

A thread watches standard error. When nothing was written for SILENCE seconds it prints the stage
(vilg/stage.py) and how long the stage has lasted; in one stage the pauses grow, so that an hour of
compilation is not a thousand lines. A progress bar writes all the time, so nothing is printed
beside it."""

import threading
import time
from types import TracebackType

from vilg import stage
from vilg.run.terminal.standard_error import Unread

SILENCE = 1.5  # seconds without a line after which the stage is printed
GROWTH = 3.0  # factor by which the pauses grow within a stage
LONGEST = 60.0  # seconds of the longest pause


class Silence:
    """Context in which the stage is printed to `stream` after a silence, unless `quiet`."""

    def __init__(self, verb: str, stream: Unread, quiet: bool):
        self.verb, self.stream, self.quiet = verb, stream, quiet
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> "Silence":
        stage.enter("starting")
        if not self.quiet:
            self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended.set()
        if not self.quiet:
            self.thread.join()

    def watch(self) -> None:
        """Prints a line after each silence, until the context ends."""
        printed, pause = stage.current(), SILENCE
        while not self.ended.wait(min(0.2, SILENCE / 4)):
            now, present = time.monotonic(), stage.current()
            if present.began != printed.began:
                printed, pause = present, SILENCE
            if now - self.stream.written >= pause:
                self.stream.write(f"vilg {self.verb}: {present.line(now)}\n")
                self.stream.flush()
                pause = min(LONGEST, pause * GROWTH)
