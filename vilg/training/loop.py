"""The training loop. It is the same for every model: the update, the batches, the checkpoints and
what is done periodically are arguments.

The host runs ahead of the device by one step: the metrics of step t are read when step t + 1 has
been dispatched. A loss or a gradient norm that is not finite stops the run before a state with that
update is saved.
"""

import collections
import dataclasses
import itertools
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.experimental import multihost_utils

from vilg.training.checkpoint import Checkpoints
from vilg.training.log import RunLog
from vilg.types import Diverged, Metrics, Preempted

MUST_BE_FINITE = ("loss", "gradient_norm")


@dataclasses.dataclass(frozen=True)
class Periodic:
    """A function of the state that is called every `every` steps: `call(state, step)` returns
    scalars, which are logged with `prefix` before their names.
    """

    every: int
    prefix: str
    call: Callable[[Any, int], dict[str, float]]

    def due(self, step: int, last: int) -> bool:
        """Whether the function is called after update `step` of `last`."""
        return bool(self.every) and (step % self.every == 0 or step == last)


class Interruption:
    """Tells whether SIGTERM or SIGINT has arrived. The loop asks after every step, so that no step
    is interrupted in its middle.

    A single process installs its own handler of both signals. With several processes
    jax.distributed.initialize has installed the handler of JAX's preemption service for SIGTERM,
    and the service tells all processes after which step they stop together. That handler stays in
    place, and SIGINT is forwarded as SIGTERM, because the service does not know SIGINT.
    """

    # counts the steps of all loops of this process: the service demands numbers that never fall
    _boundaries = itertools.count(1)

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

    def _note(self, *_: object) -> None:
        self.asked = True

    def _forward(self, *_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def reached(self) -> bool:
        """Whether all processes stop after this step. Every process must ask after every step."""
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(next(self._boundaries)))
        return self.asked

    def stopped(self, step: int) -> Preempted:
        """The exception that ends the run after `step` updates."""
        return Preempted(
            f"stopped after step {step} by a signal, everything saved; run the same command again"
            " to go on"
        )


@runtime_checkable
class Batches(Protocol):
    """Host batches, and the position in the data behind the last one."""

    def __next__(self) -> dict:
        """The next batch."""
        ...

    def get_state(self) -> dict[str, object]:
        """The position, as a checkpoint keeps it."""
        ...


class _Pending:
    """Metrics of the last steps, which the device may still be computing."""

    def __init__(self, checkpoints: Checkpoints, log: RunLog | None, log_every: int, steps: int):
        self.checkpoints, self.log, self.log_every, self.steps = checkpoints, log, log_every, steps
        self.waiting: collections.deque[tuple[int, Metrics, Sequence[str]]] = collections.deque()

    def newest_is_finite(self) -> bool:
        """Whether loss and gradient norm of the newest step are finite; waits for the device."""
        metrics = self.waiting[-1][1]
        return all(np.isfinite(np.asarray(v)) for k, v in metrics.items() if k in MUST_BE_FINITE)

    def settle(self, leave: int, extra: Mapping[str, object] | None = None) -> None:
        """Checks and logs all steps but the newest `leave`; `extra` joins the line of the last one.

        Errors: Diverged where loss or gradient norm of a step is not finite; it names the step, the
        ids of its batch and the last good checkpoint."""
        while len(self.waiting) > leave:
            step, metrics, ids = self.waiting.popleft()
            values = {k: np.asarray(v) for k, v in jax.device_get(metrics).items()}
            self._check(step, values, ids)
            more = extra if extra and not self.waiting else {}
            logged = more or step % self.log_every == 0 or step in (1, self.steps)
            if self.log is not None and logged:
                self.log.write(step, {**values, **more})

    def _check(self, step: int, values: Mapping[str, np.ndarray], ids: Sequence[str]) -> None:
        bad = [k for k in MUST_BE_FINITE if k in values and not np.isfinite(values[k])]
        if bad:
            good = self.checkpoints.steps()
            raise Diverged(
                f"{bad[0]} is {values[bad[0]]} in step {step}; last good checkpoint:"
                f" {good[-1] if good else 'none'}; batch ids:"
                f" {', '.join(ids[:16])}{' ...' if len(ids) > 16 else ''}; lower"
                " optimizer.learning_rate or optimizer.clip, or look at these"
            )


def train(
    state: Any,
    update: Callable[[Any, Any], tuple[Any, dict]],
    batches: Batches,
    place: Callable[[dict], dict],
    checkpoints: Checkpoints,
    log: RunLog | None,
    *,
    steps: int,
    log_every: int,
    checkpoint_every: int,
    periodic: Sequence[Periodic] = (),
) -> Any:
    """Trains until the state has had `steps` updates in all, and returns that state. `state` may be
    a restored one; the position in the data is saved with it.

    Errors: Diverged; Preempted, after the state was saved."""
    step = int(state.step)
    pending = _Pending(checkpoints, log, log_every, steps)
    # gloo, the collectives of CPUs, deadlocks behind many steps that nothing waits for
    await_each = jax.process_count() > 1 and jax.default_backend() == "cpu"
    last_validation: dict[str, float] | None = None

    with Interruption() as interruption:
        while step < steps:
            batch = next(batches)
            state, metrics = update(state, place(batch))
            step += 1
            pending.waiting.append((step, metrics, batch.get("ids", [])))
            pending.settle(1)
            due = [item for item in periodic if item.due(step, steps)]
            stop = interruption.reached()
            save = step % checkpoint_every == 0 or step == steps or stop
            if not (due or save or await_each):
                continue
            extra: dict[str, float] = {}
            began = time.time()
            if due and pending.newest_is_finite():
                try:
                    for item in due:
                        scalars = item.call(state, step)
                        if "loss" in scalars:
                            last_validation = {"loss": float(scalars["loss"])}
                        extra |= {item.prefix + k: v for k, v in scalars.items()}
                except BaseException:  # Ctrl-C too: a failing evaluator loses no updates
                    pending.settle(0, extra)
                    if save:
                        checkpoints.save(step, state, batches.get_state(), last_validation)
                    raise
            pending.settle(0, extra)
            if log is not None:
                log.exclude(time.time() - began if due else 0.0)
                if save:
                    log.sync()
            if save:
                checkpoints.save(step, state, batches.get_state(), last_validation)
            if stop and step < steps:
                raise interruption.stopped(step)
    pending.settle(0)
    return state
