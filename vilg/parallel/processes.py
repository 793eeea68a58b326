"""Several processes as one run: a pod has one a host, and every one is given the same command.

Separate because files have one writer and devices have many: process 0 alone writes, the others
wait for it."""

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from vilg.types import UserError

GIVEN = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
STEP = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST")  # what srun sets and JAX reads
T = TypeVar("T")


def join() -> None:
    """Joins the other processes, if there are any; call before anything touches a device.

    They are named by JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or
    found by JAX itself: on TPU VMs by their metadata, on GKE by TPU_WORKER_HOSTNAMES, under Slurm
    and Open MPI by the variables of a step. Errors: UserError where only some of the three are
    given, or in a Slurm allocation of several tasks without srun."""
    if jax.distributed.is_initialized():
        return
    told = given(os.environ)
    if told:
        jax.distributed.initialize(*told)
    elif cluster(os.environ):
        jax.distributed.initialize()


def given(environment: Mapping[str, str]) -> tuple[str, int, int] | None:
    """(coordinator, number of processes, this process) from the environment; None where none of
    them is there.
    """
    found = {name: environment[name] for name in GIVEN if environment.get(name)}
    if not found:
        return None
    missing = [name for name in GIVEN if name not in found]
    if missing:
        raise UserError(
            f"{missing[0]} is not set although {', '.join(found)} is; set all of"
            f" {', '.join(GIVEN)}, or none"
        )
    if not re.fullmatch(r".+:\d+", found[GIVEN[0]]):
        raise UserError(f"{GIVEN[0]}={found[GIVEN[0]]!r}: must be host:port, such as 10.0.0.1:1234")
    numbers = [found[name] for name in GIVEN[1:]]
    if not all(n.isdigit() for n in numbers) or int(numbers[1]) >= int(numbers[0]):
        raise UserError(
            f"JAX_PROCESS_ID={numbers[1]!r} must be a whole number below"
            f" JAX_NUM_PROCESSES={numbers[0]!r}"
        )
    return found[GIVEN[0]], int(numbers[0]), int(numbers[1])


def cluster(environment: Mapping[str, str], chips: bool | None = None) -> bool:
    """Whether JAX can find the other processes by itself: a TPU host, or several tasks of Slurm or
    Open MPI. `chips`: whether this machine has TPU chips and libtpu (None: looks)."""
    wanted = environment.get("JAX_PLATFORMS", "tpu").startswith("tpu")
    if wanted and (here() if chips is None else chips):
        if told := environment.get("TPU_PROCESS_ADDRESSES") or environment.get(
            "TPU_WORKER_HOSTNAMES"
        ):  # GKE, which has no metadata server
            return len(told.split(",")) > 1 or _several(environment, "MEGASCALE_NUM_SLICES")
        if not environment.get("TPU_SKIP_MDS_QUERY"):
            return True
    if _several(environment, "SLURM_NTASKS"):
        missing = [name for name in STEP if not environment.get(name)]
        if missing and "SLURM_JOB_ID" in environment:
            raise UserError(
                f"SLURM_NTASKS={environment['SLURM_NTASKS']} but {missing[0]} is not set: start it"
                " with srun, or as one process with SLURM_NTASKS=1"
            )
        return True
    return _several(environment, "OMPI_COMM_WORLD_SIZE")


def here() -> bool:
    """Whether this machine has TPU chips, and libtpu to use them."""
    return importlib.util.find_spec("libtpu") is not None and any(
        Path(p).exists() for p in ("/dev/accel0", "/dev/vfio/0")
    )


def _several(environment: Mapping[str, str], name: str) -> bool:
    number = environment.get(name, "1")
    return number.isdigit() and int(number) > 1


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def first_before_others(name: str, call: Callable[[], T]) -> T:
    """`call` in process 0, then in the others, which find what it wrote. Errors: where it fails in
    process 0, a UserError in the others.
    """
    if jax.process_count() == 1:
        return call()
    if not is_first():
        if not multihost_utils.broadcast_one_to_all(np.bool_(False)):
            raise UserError(
                f"{name}: the first process could not, and said why; correct that and start all of"
                " them again"
            )
        return call()
    done = False
    try:
        result = call()
        done = True
    finally:
        multihost_utils.broadcast_one_to_all(np.bool_(done))
    return result
