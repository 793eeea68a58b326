"""The log of a run: metrics.jsonl for programs, TensorBoard's files for plots, and a progress line
for people. Only process 0 writes a log.
"""

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vilg.parallel.processes import is_main_process
from vilg.paths import Place, as_path, is_remote
from vilg.training.board import SummaryWriter
from vilg.training.uploads import Uploads

# seconds between uploads to a remote workdir; there is also an upload before every checkpoint
UPLOADED = 30.0


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, one a step. Later lines of a step replace the values of earlier
    ones, and a line that a kill has torn is left out.
    """
    lines: dict[int, dict] = {}
    if as_path(path).exists():
        for text in as_path(path).read_text().splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            lines[line["step"]] = {**lines.get(line["step"], {}), **line}
    return [lines[s] for s in sorted(lines)]


class RunLog:
    """Writes named scalars by step. The fields `time` and those that end in `_seconds` are clock
    times; all other fields are the same when the run is repeated.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        total: int,
        start: int,
        batch_size: int,
        quiet: bool = False,
        title: str = "train",
    ):
        self.uploads = Uploads(workdir, ("metrics.jsonl",)) if is_remote(workdir) else None
        place = self.uploads.here if self.uploads else as_path(workdir)
        self.path = place / "metrics.jsonl"
        self.batch_size, self.quiet, self.title = batch_size, quiet, title
        cut_torn_line(self.path)
        self.file = self.path.open("a")
        self.board = SummaryWriter(str(place), flush_secs=30, write_to_disk=True)
        self.last_time, self.last_step = time.time(), start
        self.began: float | None = None
        self.progress = None
        if not quiet and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self.progress = Progress(
                *columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)
            )
            self.task = self.progress.add_task(title, total=total, completed=start, note="")
            self.progress.start()
        self.total, self.start = total, start

    def exclude(self, seconds: float) -> None:
        """Leaves time that was not spent on updates (evaluation) out of the next step_seconds."""
        self.last_time += seconds

    def write(self, step: int, scalars: Mapping[str, object]) -> None:
        """Writes the scalars of a step, after `step` completed updates, as one line."""
        now = time.time()
        named = {k: _number(v) for k, v in scalars.items()}
        line = {"step": step, "time": round(now, 3), **named}
        if step > self.last_step:
            line["step_seconds"] = round((now - self.last_time) / (step - self.last_step), 5)
            self.last_time, self.last_step = now, step
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for name, value in line.items():
            if name not in ("step", "time") and value is not None:
                self.board.add_scalar(name, value, step)
        self._show(step, named, line.get("step_seconds"))
        if self.uploads:
            self.uploads.sync(at_least=UPLOADED)

    def sync(self) -> None:
        """Uploads everything that was written. This is called before a checkpoint is saved, because
        a resumed run does not write the lines before its checkpoint again.
        """
        if self.uploads:
            self.board.flush()
            self.uploads.sync()

    def _show(self, step: int, named: Mapping[str, object], step_seconds: float | None) -> None:
        loss = named.get("loss")
        rate = self.batch_size / step_seconds if step_seconds else math.nan
        note = f"loss {loss:.4f}  {rate:.0f} images/s" if loss is not None else ""
        if self.progress is not None:
            self.progress.update(self.task, completed=step, note=note)
        elif not self.quiet:
            eta = ""
            if self.began is None:
                # the ETA leaves out the first line, whose time holds the compilation
                self.began, self.start = time.time(), step
            else:
                left = (time.time() - self.began) / max(1, step - self.start) * (self.total - step)
                eta = f"  ETA {left / 60:.1f} min"
            print(
                f"{self.title} step {step}/{self.total}  {note}{eta}", file=sys.stderr, flush=True
            )

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Writes a picture, uint8 [H, W, 3], for TensorBoard."""
        self.board.add_image(name, image, step, dataformats="HWC")

    def text(self, name: str, text: str, step: int) -> None:
        """Writes a text for TensorBoard."""
        self.board.add_text(name, text, step)

    def close(self) -> None:
        """Ends the progress line and the files."""
        if self.progress is not None:
            self.progress.stop()
        self.file.close()
        self.board.close()
        if self.uploads:
            self.uploads.close()


def cut_torn_line(path: Place) -> None:
    """Cuts off a last line that a kill has torn, so that the next line starts at its beginning."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def _number(value: Any) -> float | int | None:
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if isinstance(value, int) else number


def say(text: str, quiet: bool) -> None:
    """Prints a line for people on standard error, in the main process and unless `quiet`."""
    if not quiet and is_main_process():
        print(text, file=sys.stderr, flush=True)
