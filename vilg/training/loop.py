"""The loop: reads top to bottom, and never learns what it trains. Everything that it needs is
handed to it.

It runs ahead of the device by one step: the metrics of step t are looked at when step t + 1 has
been dispatched. A loss or gradient norm that is not finite stops the run before anything of it is
saved."""

import collections
import dataclasses
import itertools
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vilg.training.checkpoint import Checkpoints
from vilg.training.log import RunLog
from vilg.types import Diverged, Preempted


@dataclasses.dataclass(frozen=True)
class Periodic:
    """Something done every so many steps with the state: `call(state, step)` gives scalars to log,
    under a prefix.
    """

    every: int
    prefix: str
    call: Callable[[Any, int], dict[str, float]]

    def due(self, step: int, last: int) -> bool:
        """Whether it is due after `step` updates."""
        return bool(self.every) and (step % self.every == 0 or step == last)


class Interruption:
    """Whether SIGTERM or SIGINT has come; asked at step boundaries, so that a step is never half
    done.

    One process keeps a handler of its own. Of several processes JAX's preemption service has the
    handler of SIGTERM since jax.distributed.initialize, and tells all processes at which step they
    stop together: that handler is left where it is, and SIGINT is handed to it, since the service
    knows SIGTERM alone."""

    _boundaries = itertools.count(
        1
    )  # of all loops of this process: the service wants numbers that never fall

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Interruption":
        self.previous = {}
        if threading.current_thread() is threading.main_thread():
            several = jax.process_count() > 1
            handlers = (
                {signal.SIGINT: self._forward}
                if several
                else {signal.SIGTERM: self._note, signal.SIGINT: self._note}
            )
            self.previous = {
                number: signal.signal(number, handler) for number, handler in handlers.items()
            }
        return self

    def _note(self, *_: Any) -> None:
        self.asked = True

    def _forward(self, *_: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def reached(self) -> bool:
        """Whether all processes should stop after this step; every process asks after every
        step.
        """
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(next(self._boundaries)))
        return self.asked


def train(
    state: Any,
    update: Callable[[Any, Any], tuple[Any, dict]],
    batches: Any,
    place: Callable[[dict], dict],
    checkpoints: Checkpoints,
    log: RunLog | None,
    *,
    steps: int,
    log_every: int,
    checkpoint_every: int,
    periodic: Sequence[Periodic] = (),
) -> Any:
    """The state after `steps` updates in all, from wherever `state` stands. `batches` has
    get_state() for the data position.

    Errors: Diverged, naming step, ids and last good checkpoint; Preempted after a save.
    """
    step = int(state.step)
    pending: collections.deque = collections.deque()
    await_each = (
        jax.process_count() > 1 and jax.default_backend() == "cpu"
    )  # gloo deadlocks behind many un-awaited steps
    last_validation: dict[str, float] | None = None

    def settle(leave: int, extra: dict | None = None) -> None:
        """Looks at all pending metrics but the last `leave`; `extra` joins the line of the last
        one.
        """
        while len(pending) > leave:
            at, metrics, ids = pending.popleft()
            values = {k: np.asarray(v) for k, v in jax.device_get(metrics).items()}
            bad = [
                k for k in ("loss", "gradient_norm") if k in values and not np.isfinite(values[k])
            ]
            if bad:
                good = checkpoints.steps()
                raise Diverged(
                    f"{bad[0]} is {values[bad[0]]} in step {at}; last good checkpoint:"
                    f" {good[-1] if good else 'none'}; batch ids:"
                    f" {', '.join(ids[:16])}{' ...' if len(ids) > 16 else ''}; lower"
                    " optimizer.learning_rate or optimizer.clip, or look at these"
                )
            more = extra if extra and not pending else {}
            if log is not None and (more or at % log_every == 0 or at == steps or at == 1):
                log.write(at, values | more)

    with Interruption() as interruption:
        while step < steps:
            batch = next(batches)
            state, metrics = update(state, place(batch))
            step += 1
            pending.append((step, metrics, batch.get("ids", [])))
            settle(1)
            due = [item for item in periodic if item.due(step, steps)]
            stop = interruption.reached()
            save = step % checkpoint_every == 0 or step == steps or stop
            if not (due or save or await_each):
                continue
            last = pending.pop()
            settle(0)
            pending.append(last)
            extra: dict[str, Any] = {}
            began = time.time()
            if due and all(
                np.isfinite(np.asarray(v))
                for k, v in last[1].items()
                if k in ("loss", "gradient_norm")
            ):
                try:
                    for item in due:
                        scalars = item.call(state, step)
                        if "loss" in scalars:
                            last_validation = {"loss": float(scalars["loss"])}
                        extra |= {item.prefix + k: v for k, v in scalars.items()}
                except (
                    BaseException
                ):  # Ctrl-C, too: what was trained is kept whatever an evaluator does
                    settle(0, extra)
                    if save:
                        checkpoints.save(step, state, batches.get_state(), last_validation)
                    raise
            settle(0, extra)
            if log is not None:
                log.exclude(time.time() - began if due else 0.0)
            if save:
                if log is not None:
                    log.sync()
                checkpoints.save(step, state, batches.get_state(), last_validation)
            if stop and step < steps:
                raise Preempted(
                    f"stopped after step {step} by a signal, everything saved; run the same command"
                    " again to go on"
                )
    settle(0)
    return state
