"""Several processes as one run: a pod has one a host, and every one is given the same command.

Separate because files have one writer and devices have many: process 0 alone writes, the others wait for it.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from vilg.types import UserError

GIVEN = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
T = TypeVar("T")


def join() -> None:
    """Joins the other processes, if there are any; call before anything touches a device.

    They are named by JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or found by JAX itself on a TPU host and under
    Slurm or Open MPI. Errors: UserError where only some of the three are given.
    """
    if jax.distributed.is_initialized():
        return
    told = given(os.environ)
    if told:
        jax.distributed.initialize(*told)
    elif cluster(os.environ):
        jax.distributed.initialize()


def given(environment: Mapping[str, str]) -> tuple[str, int, int] | None:
    """(coordinator, number of processes, this process) from the environment; None where none of them is there."""
    found = {name: environment[name] for name in GIVEN if environment.get(name)}
    if not found:
        return None
    missing = [name for name in GIVEN if name not in found]
    if missing:
        raise UserError(f"{missing[0]} is not set although {', '.join(found)} is; set all of {', '.join(GIVEN)}, or none")
    numbers = [found[name] for name in GIVEN[1:]]
    if not all(n.isdigit() for n in numbers) or int(numbers[1]) >= int(numbers[0]):
        raise UserError(f"JAX_PROCESS_ID={numbers[1]!r} must be a whole number below JAX_NUM_PROCESSES={numbers[0]!r}")
    return found[GIVEN[0]], int(numbers[0]), int(numbers[1])


def cluster(environment: Mapping[str, str]) -> bool:
    """Whether JAX can find the other processes by itself: a TPU host, or several tasks of Slurm or Open MPI."""
    tpu = importlib.util.find_spec("libtpu") is not None and any(Path(p).exists() for p in ("/dev/accel0", "/dev/vfio/0"))
    wanted = environment.get("JAX_PLATFORMS", "tpu").startswith("tpu") and not environment.get("TPU_SKIP_MDS_QUERY")
    tasks = [environment.get(name, "1") for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")]
    return (tpu and wanted) or any(n.isdigit() and int(n) > 1 for n in tasks)


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def first_before_others(name: str, call: Callable[[], T]) -> T:
    """`call` in process 0, then in the others, which find what it wrote. Errors: where it fails in process 0, a UserError in the others."""
    if jax.process_count() == 1:
        return call()
    if not is_first():
        if not multihost_utils.broadcast_one_to_all(np.bool_(False)):
            raise UserError(f"{name}: the first process could not, and said why; correct that and start all of them again")
        return call()
    done = False
    try:
        result = call()
        done = True
    finally:
        multihost_utils.broadcast_one_to_all(np.bool_(done))
    return result
