"""A window of updates in jax.profiler's trace, for TensorBoard or Perfetto: what a step's time is
spent on.

Separate from the loop, which never learns that it is watched: the window is a wrapper of its
update."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import jax

from vilg.config import require
from vilg.paths import Place, written_to


def parse_window(text: str) -> tuple[int, int] | None:
    """(first, last) update of "START:STOP", both traced; None of "". Errors: UserError for anything
    else.
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
    """`update(state, batch)` with updates `first` to `last` in a trace under `directory`, every
    process its own file. A run that goes on past `first` traces what is left of the window. `close`
    ends a trace that an error or the run's end has left open."""

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
            jax.block_until_ready(state)  # updates before the window stay out of it
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
        """Writes the trace, if there is one."""
        if self.tracing:
            jax.profiler.stop_trace()
            self.ended.close()
            self.tracing = False
