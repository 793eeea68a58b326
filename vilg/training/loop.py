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

    def _note(self, *_: Any) -> None:
        self.asked = True

    def _forward(self, *_: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def reached(self) -> bool:
        """Whether all processes stop after this step. Every process must ask after every step."""
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
    """Trains until the state has had `steps` updates in all, and returns that state. `state` may be
    a restored one; `batches.get_state()` gives the position in the data, which is saved too.

    Errors: Diverged, which names the step, the ids of its batch and the last good checkpoint;
    Preempted, after the state was saved.
    """
    step = int(state.step)
    pending: collections.deque = collections.deque()
    # gloo, the collectives of CPUs, deadlocks behind many steps that nothing waits for
    await_each = jax.process_count() > 1 and jax.default_backend() == "cpu"
    last_validation: dict[str, float] | None = None

    def settle(leave: int, extra: dict | None = None) -> None:
        """Checks and logs the metrics of all pending steps but the last `leave`. `extra` are more
        scalars for the line of the last pending step.
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
                except BaseException:  # Ctrl-C too
                    # a failing evaluator must not lose the updates that were made
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
