"""Several processes as one run: a pod has one process a host, and every host is given the same
command.

Files have one writer, while devices are everybody's: process 0, the main process, writes, and the
others wait for it."""

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

COORDINATES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
SLURM_STEP = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST")  # set by srun, read by JAX
T = TypeVar("T")


def join() -> None:
    """Joins the other processes of the run, if there are any; to be called before anything touches
    a device.

    The environment names the processes by JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID, or JAX finds them: on TPU VMs by their metadata, on GKE by TPU_WORKER_HOSTNAMES,
    under Slurm and Open MPI by the variables of a step. Errors: UserError where only some of the
    three variables are set, or in a Slurm allocation of several tasks without srun."""
    if jax.distributed.is_initialized():
        return
    coordinates = coordinates_of(os.environ)
    if coordinates:
        jax.distributed.initialize(*coordinates)
    elif in_cluster(os.environ):
        jax.distributed.initialize()


def coordinates_of(environment: Mapping[str, str]) -> tuple[str, int, int] | None:
    """(coordinator's address, number of processes, this process) of the environment; None where
    none of them is set. Errors: UserError for values that are missing or are not such.
    """
    values = {name: environment[name] for name in COORDINATES if environment.get(name)}
    if not values:
        return None
    missing = [name for name in COORDINATES if name not in values]
    if missing:
        raise UserError(
            f"{missing[0]} is not set although {', '.join(values)} is; set all of"
            f" {', '.join(COORDINATES)}, or none"
        )
    address, count, index = (values[name] for name in COORDINATES)
    if not re.fullmatch(r".+:\d+", address):
        raise UserError(f"{COORDINATES[0]}={address!r}: must be host:port, such as 10.0.0.1:1234")
    if not count.isdigit() or not index.isdigit() or int(index) >= int(count):
        raise UserError(
            f"JAX_PROCESS_ID={index!r} must be a whole number below JAX_NUM_PROCESSES={count!r}"
        )
    return address, int(count), int(index)


def in_cluster(environment: Mapping[str, str], chips: bool | None = None) -> bool:
    """Whether JAX can find the other processes by itself: on a TPU host, or among several tasks of
    Slurm or Open MPI. `chips`: whether this machine has TPU chips and libtpu (None: looks). Errors:
    UserError for several tasks of Slurm without srun.
    """
    wanted = environment.get("JAX_PLATFORMS", "tpu").startswith("tpu")
    if wanted and (has_tpu() if chips is None else chips):
        hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
        if hosts:  # GKE, which has no metadata server
            return len(hosts.split(",")) > 1 or _several(environment, "MEGASCALE_NUM_SLICES")
        if not environment.get("TPU_SKIP_MDS_QUERY"):
            return True
    if _several(environment, "SLURM_NTASKS"):
        missing = [name for name in SLURM_STEP if not environment.get(name)]
        if missing and "SLURM_JOB_ID" in environment:
            raise UserError(
                f"SLURM_NTASKS={environment['SLURM_NTASKS']} but {missing[0]} is not set: start the"
                " command with srun, or as one process with SLURM_NTASKS=1"
            )
        return True
    return _several(environment, "OMPI_COMM_WORLD_SIZE")


def has_tpu() -> bool:
    """Whether this machine has TPU chips, and libtpu to use them."""
    return importlib.util.find_spec("libtpu") is not None and any(
        Path(p).exists() for p in ("/dev/accel0", "/dev/vfio/0")
    )


def _several(environment: Mapping[str, str], name: str) -> bool:
    number = environment.get(name, "1")
    return number.isdigit() and int(number) > 1


def is_main_process() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def main_process_first(name: str, call: Callable[[], T]) -> T:
    """The result of `call`, which process 0 makes before the others, so that they find its files.
    Errors: where `call` fails in process 0, a UserError that begins with `name` in the others.
    """
    if jax.process_count() == 1:
        return call()
    if not is_main_process():
        if not multihost_utils.broadcast_one_to_all(np.bool_(False)):
            raise UserError(
                f"{name}: process 0 failed, and said why; correct that and start all processes"
                " again"
            )
        return call()
    done = False
    try:
        result = call()
        done = True
    finally:
        multihost_utils.broadcast_one_to_all(np.bool_(done))
    return result
