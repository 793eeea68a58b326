"""Progress of batches or of evaluations of a denoiser: a bar with the remaining time in a terminal,
else a line now and then.
"""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY = 10.0  # seconds between lines where there is no terminal


class Evaluations:
    """Called after each evaluation (Session.sample's `watch`). It is a context manager, so that the
    bar ends whatever happens.
    """

    def __init__(self, title: str, quiet: bool):
        self.title, self.quiet = title, quiet
        self.bar: Progress | None = None
        # (evaluations done, time) after the first call, whose evaluation was compiled too
        self.first = (0, 0.0)
        self.printed = time.monotonic()

    def __enter__(self) -> "Evaluations":
        if not self.quiet and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            bar = Progress(*columns, console=Console(stderr=True))
            self.task = bar.add_task(self.title, total=None)
            self.bar = bar
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, done: int, total: int, rows: int) -> None:
        """Shows that `done` of `total` evaluations, of batches of `rows` pictures, are done."""
        now = time.monotonic()
        if self.bar is not None:
            self.bar.start()
            self.bar.update(self.task, completed=done, total=total)
        elif not self.quiet and self.first[0] and (now - self.printed > EVERY):
            left = (now - self.first[1]) / (done - self.first[0]) * (total - done)
            print(
                f"{self.title} {done}/{total} evaluations of {rows} pictures  ETA"
                f" {left / 60:.1f} min",
                file=sys.stderr,
                flush=True,
            )
            self.printed = now
        self.first = self.first if self.first[0] else (done, now)
