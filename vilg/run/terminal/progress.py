"""Progress of a stepwise sampler: a bar with the time that is left where a terminal shows it, else
a line now and then.
"""

import sys
import time
from typing import Any

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
    """Called after each evaluation (Session.sample's `watch`); a context, so that the bar ends
    whatever happens.
    """

    def __init__(self, title: str, quiet: bool):
        self.title, self.quiet = title, quiet
        self.bar: Progress | None = None
        self.first = (
            0,
            0.0,
        )  # evaluations done and time after the first one, which was compiled too
        self.said = time.monotonic()

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

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, done: int, total: int, rows: int) -> None:
        """`done` of `total` evaluations, of batches of `rows` pictures."""
        now = time.monotonic()
        if self.bar is not None:
            self.bar.start()
            self.bar.update(self.task, completed=done, total=total)
        elif not self.quiet and self.first[0] and (now - self.said > EVERY):
            left = (now - self.first[1]) / (done - self.first[0]) * (total - done)
            print(
                f"{self.title} {done}/{total} evaluations of {rows} pictures  ETA"
                f" {left / 60:.1f} min",
                file=sys.stderr,
                flush=True,
            )
            self.said = now
        self.first = self.first if self.first[0] else (done, now)
