"""Time of calls that alternate, so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Row = dict[str, Any]  # of a benchmark's table; its columns depend on the benchmark
Call = Callable[[], Any]  # gives a pytree of arrays, or something else than JAX's


class Seconds(NamedTuple):
    """Time of one call by the wall clock, and of all threads of this process."""

    wall: float
    cpu: float


def timed(call: Call) -> Seconds:
    """The time of one call, until its arrays are computed."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def alternate(calls: Mapping[str, Call], repeats: int) -> dict[str, Seconds]:
    """The median times of each call, taken in turns after one warm-up of each."""
    for call in calls.values():
        jax.block_until_ready(call())
    times: dict[str, list[Seconds]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(timed(call))
    return {
        name: Seconds(
            statistics.median(t.wall for t in taken), statistics.median(t.cpu for t in taken)
        )
        for name, taken in times.items()
    }


def cpu_seconds(call: Call) -> float:
    """CPU-seconds of one call after a warm-up."""
    jax.block_until_ready(call())
    return timed(call).cpu
