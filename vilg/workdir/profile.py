"""A trace of some updates by jax.profiler, for TensorBoard or Perfetto, which shows the time of
each operation.

Separate from the loop: `Profiled` wraps the loop's update, so that the loop has no code for traces.
"""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import jax

from vilg.config import require
from vilg.paths import Place, written_to


def parse_window(text: str) -> tuple[int, int] | None:
    """The (first, last) update of a text "START:STOP", both of which are traced, or None for "".
    Errors: UserError for another text.
    """
    if not text:
        return None
    found = re.fullmatch(r"([1-9][0-9]*):([1-9][0-9]*)", text)
    fits = found is not None and int(found[1]) <= int(found[2])
    require(
        fits, "profile", text, "write the first and the last update to be traced, such as 10:12"
    )
    assert found is not None
    return int(found[1]), int(found[2])


class Profiled:
    """`update(state, batch)`, with a trace of the updates `first` to `last` of `window`.

    Every process writes a file under `directory`. A run that resumes after `first` traces the rest
    of the window. `close` ends a trace that is still open after an error or at the run's end.
    """

    def __init__(
        self,
        update: Callable[[Any, Any], tuple[Any, dict]],
        window: tuple[int, int],
        directory: Place,
        step: int,
    ):
        self.update, self.window, self.directory, self.step = update, window, directory, step
        self.tracing, self.ended = False, contextlib.ExitStack()

    def __call__(self, state: Any, batch: Any) -> tuple[Any, dict]:
        first, last = self.window
        self.step += 1
        if not self.tracing and first <= self.step <= last:
            jax.block_until_ready(state)  # so that the trace holds no earlier update
            self.place = self.ended.enter_context(written_to(self.directory))
            jax.profiler.start_trace(str(self.place))
            self.tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=self.step):
            state, metrics = self.update(state, batch)
        if self.tracing and self.step == last:
            jax.block_until_ready((state, metrics))
            self.close()
        return state, metrics

    def close(self) -> None:
        """Ends and writes a trace that is open."""
        if self.tracing:
            jax.profiler.stop_trace()
            self.ended.close()
            self.tracing = False
