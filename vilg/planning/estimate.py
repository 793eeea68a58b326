"""Estimated seconds of a step: the compiler's cycles, memory traffic and communication, combined
under stated assumptions.

Separate from costs.py, because every figure of this module comes from a model and none from a
count. Nothing is measured: wherever such a number is shown, "XLA-estimated" stands beside it and
ASSUMPTIONS are printed; only numbers of one compiler can be compared."""

import dataclasses
from collections.abc import Mapping, Sequence

from vilg.parallel.mesh import slice_of
from vilg.planning.chips import Chip
from vilg.planning.costs import Costs
from vilg.planning.topology import Topology
from vilg.types import Device

KERNEL_EFFICIENCY = 0.35  # share of the chip's peak that attention kernels are taken to reach
ASSUMPTIONS = (
    "compute: XLA's estimated_cycles over the chip's clock, loops multiplied out, no contention",
    (
        "kernels: the FLOPs of the blocks that they run (splash attention: forward 2, dq 3, dkv 4"
        f" products a block) at {KERNEL_EFFICIENCY:.0%} of peak, whatever the block's size"
    ),
    "memory: bytes of operands and results in main memory over its bandwidth, without padding",
    (
        "collectives: bytes x (members - 1) / members over the links of the torus dimensions that"
        " their mesh axes cross (both directions of a ring that closes, one of a line), all-reduce"
        " twice; between slices the chip's share of the data-centre network; no latency"
    ),
    "host: bytes to and from the host's memory at 16 GB/s a chip (not published)",
    (
        "best: the largest of compute, memory, host and communication; likely: the largest of"
        " compute, memory, host and asynchronous communication, plus synchronous communication;"
        " serial: the larger of compute and memory, plus host and all communication"
    ),
    "MFU: model FLOPs (no recomputation) over step x peak",
)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The estimated MFU of a model whose MFU on real chips is published, compiled with sets of
    flags (tests/benchmarks/calibrate.py).
    """

    generation: str
    configuration: str
    flags: str
    published: float
    estimated: float


LLAMA2 = "Llama2-70B, 4 rows of 4096 a chip, v5p-512 (256 chips)"
LLAMA3 = "Llama3.1-8B, 3 rows of 8192 a chip, v6e-256, recomputed instead of offloaded"
# With jax 0.10.2 and libtpu 0.0.42.1; the first and the third before tpu_async_gather contained
# --xla_tpu_prefer_async_allgather_to_allreduce.
CALIBRATION = (
    Calibration("v5p", LLAMA2, "tpu_async_gather", 0.654, 0.565),
    Calibration("v5p", LLAMA2, "tpu_async_gather,tpu_vmem_v5", 0.654, 0.700),
    Calibration("v6e", LLAMA3, "tpu_async_gather", 0.455, 0.353),
    Calibration("v6e", LLAMA3, "tpu_async_gather,tpu_vmem", 0.455, 0.454),
)


def calibration(topologies: Sequence[Topology]) -> list[dict[str, str | float]]:
    """The known errors of the estimate on these generations: for each published configuration, the
    fields of Calibration and "error", the relative error of the likely MFU.
    """
    wanted = {t.generation for t in topologies}
    return [
        dataclasses.asdict(c) | {"error": c.estimated / c.published - 1}
        for c in CALIBRATION
        if c.generation in wanted
    ]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of a step on one device."""

    compute: float
    memory: float
    asynchronous: float
    synchronous: float
    by_axis: Mapping[str, float]
    host: float = 0.0

    @property
    def best(self) -> float:
        """Seconds if everything overlaps."""
        return max(self.compute, self.memory, self.host, self.asynchronous + self.synchronous)

    @property
    def likely(self) -> float:
        """Seconds if asynchronous communication overlaps."""
        return max(self.compute, self.memory, self.host, self.asynchronous) + self.synchronous

    @property
    def serial(self) -> float:
        """Seconds if nothing overlaps with communication."""
        return max(self.compute, self.memory) + self.host + self.asynchronous + self.synchronous

    @property
    def bound_by(self) -> str:
        """The largest term: compute, memory, host, or the links of a mesh axis."""
        terms = {
            "compute": self.compute,
            "memory": self.memory,
            "host": self.host,
            **{f"links of {axis}": s for axis, s in self.by_axis.items()},
        }
        return max(terms, key=lambda name: terms[name])

    def mfu(self, model_flops: float, chip: Chip) -> dict[str, float]:
        """The share of a device's peak that the model FLOPs of one device are, {"best", "likely",
        "serial"}.
        """
        peak = chip.peak / chip.devices
        return {
            name: model_flops / (max(seconds, 1e-12) * peak)
            for name, seconds in (
                ("best", self.best),
                ("likely", self.likely),
                ("serial", self.serial),
            )
        }


def estimate(costs: Costs, topology: Topology, devices: Sequence[Device]) -> Estimate:
    """The estimate of a program whose mesh holds these devices in this (row-major) order."""
    chip = topology.chip
    peak = chip.peak / chip.devices
    compute = sum(costs.cycles.values()) / chip.clock
    compute += sum(k.flops * k.times for k in costs.kernels) / (KERNEL_EFFICIENCY * peak)
    if not any(costs.cycles.values()):  # the CPU's compiler estimates nothing: FLOPs at peak
        compute = costs.total_flops / peak
    parts = {True: 0.0, False: 0.0}
    by_axis: dict[str, float] = {}
    for c in costs.collectives:
        bandwidth = group_bandwidth(c.groups, devices, topology)
        seconds = c.times * collective_seconds(c.kind, c.bytes, c.members, bandwidth)
        parts[c.asynchronous] += seconds
        by_axis[c.axis] = by_axis.get(c.axis, 0.0) + seconds
    memory = costs.traffic / (chip.hbm_bandwidth / chip.devices)
    host = costs.host / (chip.host / chip.devices)
    return Estimate(compute, memory, parts[True], parts[False], by_axis, host)


def collective_seconds(kind: str, size: float, members: int, bandwidth: float) -> float:
    """Seconds of one collective among `members`, whose larger side (input or output) has `size`
    bytes, at so many bytes/s in and out of a device.
    """
    if members < 2:
        return 0.0
    moved = size
    if kind not in ("collective-permute", "collective-broadcast"):
        moved = size * (members - 1) / members
    if kind == "all-reduce":
        moved *= 2
    if kind in ("all-to-all", "ragged-all-to-all"):
        # on a ring whose both directions are used, data cross a quarter of it on average
        moved *= max(1.0, members / 4)
    return moved / bandwidth


def group_bandwidth(
    groups: Sequence[Sequence[int]], devices: Sequence[Device], topology: Topology
) -> float:
    """Bytes/s that a device can take in while such groups communicate: over the links of the torus
    dimensions along which members differ, or over the network where they are in several slices.
    """
    chip = topology.chip
    group = max(groups, key=len, default=())
    members = [devices[i] for i in group]
    if len({slice_of(d) for d in members}) > 1:
        return chip.network
    places = [_coordinates(d, i) for i, d in zip(group, members, strict=True)]
    dimensions = len(places[0]) if places else 0
    links = 0
    for k, size in enumerate((*topology.shape, *[1] * dimensions)[:dimensions]):
        crossed = len({place[k] for place in places})
        if crossed > 1:
            links += 2 if crossed == size and is_ring(topology, size) else 1
    return max(1, links) * chip.link


def _coordinates(device: Device, position: int) -> tuple[int, ...]:
    """A chip's place in the torus; the position in the mesh for a platform without a torus."""
    try:
        return tuple(device.coords)
    except AttributeError:
        return (position,)


def is_ring(topology: Topology, size: int) -> bool:
    """Whether a torus dimension of this size is a ring: on v4, v5p and tpu7x if it is a multiple of
    4, on v5e and v6e if it is 16, the pod's size.
    """
    return size % 4 == 0 if topology.chip.torus == 3 else size == 16
