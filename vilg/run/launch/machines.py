"""Google's names for TPU slices: gcloud's accelerator types, GKE's labels and machine types; and
the number of hosts of a slice.

planning/chips.py has the figures of chips that compilers and estimates need."""

import dataclasses
import math

from vilg.config import require
from vilg.planning.topology import Topology


@dataclasses.dataclass(frozen=True)
class Machine:
    """How a generation is ordered.

    The accelerator type is PREFIX-(chips x counts); the older names count cores. `label` and
    `machine`: GKE's accelerator label and machine type. `hosts`: numbers of chips that a host of a
    slice with one host may have; hosts of larger slices have 4. `runtime`: the image of TPU VMs, ""
    where there are no queued resources."""

    prefix: str
    counts: int
    label: str
    machine: str
    hosts: tuple[int, ...]
    runtime: str


# Sources: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x,runtimes},
# .../kubernetes-engine/docs/concepts/plan-tpus; AI-Hypercomputer/xpk's table of systems (v5p-128 =
# 4x4x4 on 16 hosts, tpu7x-128 = 4x4x4 on tpu7x-standard-4t).
MACHINES: dict[str, Machine] = {
    "v4": Machine("v4", 2, "tpu-v4-podslice", "ct4p-hightpu-4t", (4,), "tpu-ubuntu2204-base"),
    "v5e": Machine(
        "v5litepod",
        1,
        "tpu-v5-lite-podslice",
        "ct5lp-hightpu-{}t",
        (1, 4, 8),
        "v2-alpha-tpuv5-lite",
    ),
    "v5p": Machine("v5p", 2, "tpu-v5p-slice", "ct5p-hightpu-4t", (4,), "v2-alpha-tpuv5"),
    "v6e": Machine("v6e", 1, "tpu-v6e-slice", "ct6e-standard-{}t", (1, 4, 8), "v2-alpha-tpuv6e"),
    "tpu7x": Machine("tpu7x", 2, "tpu7x", "tpu7x-standard-4t", (4,), ""),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """One slice of a topology, by Google's names."""

    accelerator: str  # v5p-128
    label: str  # tpu-v5p-slice
    shape: str  # 4x4x4
    machine: str  # ct5p-hightpu-4t
    chips: int  # 64
    host_chips: int  # 4
    runtime: str  # v2-alpha-tpuv5

    @property
    def hosts(self) -> int:
        """The number of machines of the slice, each with one process."""
        return self.chips // self.host_chips


def ordered(topology: Topology) -> Slice:
    """How one slice of a topology is ordered. Errors: UserError for fake devices, and for shapes
    that do not fill their hosts.
    """
    name, torus = str(topology), topology.chip.torus
    form = f"is nothing that can be ordered; give one of {', '.join(MACHINES)}, such as v5p:4x4x4"
    require(topology.generation in MACHINES, "topology", name, form)
    machine, chips = MACHINES[topology.generation], math.prod(topology.shape)
    form = f"is ordered with {torus} sizes, such as {'x'.join('4' * torus)}"
    require(len(topology.shape) == torus, "topology", name, form)
    host = chips if chips in machine.hosts else 4
    sizes = " or ".join(map(str, machine.hosts))
    form = f"a host has {sizes} chips, which {chips} chips do not fill"
    require(chips % host == 0, "topology", name, form)
    shape = "x".join(map(str, topology.shape))
    return Slice(
        f"{machine.prefix}-{chips * machine.counts}",
        machine.label,
        shape,
        machine.machine.format(host),
        chips,
        host,
        machine.runtime,
    )
