"""The stage in which a command is, such as "opening runs/tiny".

The command line prints the stage when nothing was printed for some seconds
(vilg/run/terminal/silence.py). The functions that open, compile, sample and evaluate name their
stage here, since they cannot know which command, or whose Python code, called them."""

import threading
import time
from typing import NamedTuple


class Stage(NamedTuple):
    """The text of a stage, the time (time.monotonic) at which it began, and how much of it is done:
    `done` of `total` rows, or 0 of 0 where nobody counts."""

    text: str
    began: float
    done: int = 0
    total: int = 0

    def line(self, now: float) -> str:
        """The text with the seconds so far, and the remaining time where it can be told."""
        seconds = now - self.began
        if not self.done or self.done == self.total:
            return f"{self.text}, {seconds:.0f} s"
        left = seconds / self.done * (self.total - self.done)
        return f"{self.text}, {self.done} of {self.total}, {seconds:.0f} s, ETA {left:.0f} s"


_lock = threading.Lock()
_current = Stage("starting", time.monotonic())


def enter(text: str) -> None:
    """Names the stage that begins now; it lasts until the next one is named."""
    global _current
    with _lock:
        _current = Stage(text, time.monotonic())


def progress(done: int, total: int) -> None:
    """States that `done` of the `total` rows of the present stage are done."""
    global _current
    with _lock:
        _current = _current._replace(done=done, total=total)


def current() -> Stage:
    """The stage that was named last."""
    with _lock:
        return _current
