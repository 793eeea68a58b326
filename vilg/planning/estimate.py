"""What a step may take on a chip: the compiler's cycles, memory traffic and the links, put together
under stated assumptions.

Separate from costs.py, because every figure here is a model, not a count. Nothing was measured: say
"XLA-estimated" wherever a number of this is shown, and compare only what one compiler made.
ASSUMPTIONS is printed beside the numbers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vilg.planning.costs import Costs
from vilg.planning.topology import Chip, Topology

KERNEL_EFFICIENCY = 0.35  # of the chip's peak: what attention kernels are taken to reach
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
    """The estimator on a model whose MFU on real chips is published
    (tests/benchmarks/calibrate.py), compiled with sets of flags.
    """

    generation: str
    configuration: str
    flags: str
    published: float
    estimated: float


LLAMA2 = "Llama2-70B, 4 rows of 4096 a chip, v5p-512 (256 chips)"
LLAMA3 = "Llama3.1-8B, 3 rows of 8192 a chip, v6e-256, recomputed instead of offloaded"
# jax 0.10.2, libtpu 0.0.42.1; the first and the third before tpu_async_gather preferred gathers to
# sums
CALIBRATION = (
    Calibration("v5p", LLAMA2, "tpu_async_gather", 0.654, 0.565),
    Calibration("v5p", LLAMA2, "tpu_async_gather,tpu_vmem_v5", 0.654, 0.700),
    Calibration("v6e", LLAMA3, "tpu_async_gather", 0.455, 0.353),
    Calibration("v6e", LLAMA3, "tpu_async_gather,tpu_vmem", 0.455, 0.454),
)


def calibration(topologies: Sequence[Topology]) -> list[dict[str, Any]]:
    """What is known of the estimator's error on these generations: of each published configuration,
    the relative error of the likely MFU.
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
        """Everything overlaps."""
        return max(self.compute, self.memory, self.host, self.asynchronous + self.synchronous)

    @property
    def likely(self) -> float:
        """What is asynchronous overlaps."""
        return max(self.compute, self.memory, self.host, self.asynchronous) + self.synchronous

    @property
    def serial(self) -> float:
        """Nothing overlaps with communication."""
        return max(self.compute, self.memory) + self.host + self.asynchronous + self.synchronous

    @property
    def bound_by(self) -> str:
        """The largest term: compute, memory, or the links of a mesh axis."""
        terms = {
            "compute": self.compute,
            "memory": self.memory,
            "host": self.host,
            **{f"links of {axis}": s for axis, s in self.by_axis.items()},
        }
        return max(terms, key=lambda name: terms[name])

    def mfu(self, model_flops: float, chip: Chip) -> dict[str, float]:
        """Share of a device's peak that the model's FLOPs (of one device) would be, by each of the
        three.
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


def estimate(costs: Costs, topology: Topology, devices: Sequence[Any]) -> Estimate:
    """The estimate of a program whose mesh holds these devices in this order (row-major)."""
    chip = topology.chip
    peak = chip.peak / chip.devices
    compute = sum(costs.cycles.values()) / chip.clock
    compute += sum(k.flops * k.times for k in costs.kernels) / (KERNEL_EFFICIENCY * peak)
    if not any(costs.cycles.values()):  # a compiler that estimates nothing (CPU): FLOPs at peak
        compute = costs.total_flops / peak
    parts = {True: 0.0, False: 0.0}
    by_axis: dict[str, float] = {}
    for c in costs.collectives:
        seconds = c.times * seconds_of(
            c.kind, c.bytes, c.members, rate(c.groups, devices, topology)
        )
        parts[c.asynchronous] += seconds
        by_axis[c.axis] = by_axis.get(c.axis, 0.0) + seconds
    memory, host = (
        costs.traffic / (chip.hbm_bandwidth / chip.devices),
        costs.host / (chip.host / chip.devices),
    )
    return Estimate(compute, memory, parts[True], parts[False], by_axis, host)


def seconds_of(kind: str, size: float, members: int, bandwidth: float) -> float:
    """One collective of `size` bytes (the larger of what goes in and what comes out) among
    `members`, at so many bytes/s in and out.
    """
    if members < 2:
        return 0.0
    moved = (
        size
        if kind in ("collective-permute", "collective-broadcast")
        else size * (members - 1) / members
    )
    if kind == "all-reduce":
        moved *= 2
    if kind in ("all-to-all", "ragged-all-to-all"):
        moved *= max(
            1.0, members / 4
        )  # on a ring an array crosses a quarter of it on average, both ways used
    return moved / bandwidth


def rate(groups: Sequence[Sequence[int]], devices: Sequence[Any], topology: Topology) -> float:
    """Bytes/s that a device can take in while such groups talk: of the links of the torus
    dimensions along which members differ, or of the network where they are in several slices."""
    chip = topology.chip
    group = max(groups, key=len, default=())
    members = [devices[i] for i in group]
    if len({getattr(d, "slice_index", 0) for d in members}) > 1:
        return chip.network
    places = [
        tuple(getattr(d, "coords", None) or (i,)) for i, d in zip(group, members, strict=True)
    ]
    links = 0
    for k, size in enumerate(
        (*topology.shape, *[1] * len(places[0]))[: len(places[0])] if places else ()
    ):
        seen = len({place[k] for place in places})
        if seen > 1:
            links += 2 if seen == size and closes(topology, size) else 1
    return max(1, links) * chip.link


def closes(topology: Topology, size: int) -> bool:
    """Whether a torus dimension of this size is a ring: v4, v5p, tpu7x where it is a multiple of 4,
    v5e and v6e at their pod's 16.
    """
    return size % 4 == 0 if topology.chip.torus == 3 else size == 16
