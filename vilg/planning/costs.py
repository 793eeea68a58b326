"""What a compiled program costs a device: floating-point operations, memory traffic, the compiler's
cycles and every collective, with loops multiplied out, and apart for forward, backward and
optimizer.

Separate from hlo.py and hlo_parser.py, which only read, and from estimate.py, which turns costs
into seconds on a chip. Nothing is measured: FLOPs are counted from shapes, bytes from shapes
without padding, and cycles are XLA's own."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from vilg.planning.collectives import Places, axes_along, groups_of, kind_of
from vilg.planning.flops import flops_of
from vilg.planning.hlo import Computation, Instruction, Module
from vilg.planning.kernels import is_kernel, kernel_flops
from vilg.planning.loops import walk
from vilg.planning.phases import PHASES, phase_near, phase_of
from vilg.planning.traffic import host_bytes, traffic_of

CollectiveTable = dict[str, dict[str, dict[str, float]]]  # {mesh axes: {kind: {"count", "bytes"}}}


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of the program, which runs `times` times. `bytes`: those of the whole array of
    one run, the larger of what a device puts in and what it gets.
    """

    kind: str
    axes: tuple[str, ...]
    members: int
    bytes: float
    times: float
    phase: str
    asynchronous: bool
    groups: tuple[tuple[int, ...], ...]
    op_name: str

    @property
    def axis(self) -> str:
        """The mesh axes joined: "data", "data+model"; "none" where no device communicates."""
        return "+".join(self.axes) or "none"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A custom kernel, whose cost XLA does not know. `flops` of one run are those of kernels.py; 0,
    with a warning in Costs, where nothing is known.
    """

    name: str
    flops: float
    times: float
    phase: str


@dataclasses.dataclass(frozen=True)
class Costs:
    """Costs of one device and one run of the program.

    `flops` by phase are those of matrix products and convolutions; kernels' own are in `kernels`.
    `cycles` by phase are XLA's. `traffic`: bytes to and from main memory. `host`: bytes to and from
    the host's memory. `warnings`: what could not be counted."""

    flops: Mapping[str, float]
    cycles: Mapping[str, float]
    traffic: float
    collectives: tuple[Collective, ...]
    kernels: tuple[Kernel, ...]
    warnings: tuple[str, ...]
    host: float = 0.0

    @property
    def total_flops(self) -> float:
        """FLOPs of all phases and of the kernels."""
        return float(sum(self.flops.values()) + sum(k.flops * k.times for k in self.kernels))

    def collective_table(self, *, phase: str | None = None) -> CollectiveTable:
        """Counts and bytes of collectives with loops multiplied out, of one phase or of all."""
        table: CollectiveTable = {}
        for c in self.collectives:
            if phase is None or c.phase == phase:
                kinds = table.setdefault(c.axis, {})
                entry = kinds.setdefault(c.kind, {"count": 0.0, "bytes": 0.0})
                entry["count"] += c.times
                entry["bytes"] += c.times * c.bytes
        return table


def count(module: Module, sizes: Mapping[str, int], places: Places | None = None) -> Costs:
    """The costs of a program on a mesh of these sizes; `places` as in collectives.groups_of."""
    counter = _Counter(module, sizes, places)
    for computation, instruction, times in walk(module, counter.warnings):
        counter.add(computation, instruction, times)
    return Costs(
        flops=counter.flops,
        cycles=counter.cycles,
        traffic=counter.traffic,
        collectives=tuple(counter.collectives),
        kernels=tuple(counter.kernels),
        warnings=tuple(dict.fromkeys(counter.warnings)),
        host=counter.host,
    )


class _Counter:
    """Adds up the costs of instructions."""

    def __init__(self, module: Module, sizes: Mapping[str, int], places: Places | None):
        self.module, self.sizes, self.places = module, sizes, places
        self.flops, self.cycles = dict.fromkeys(PHASES, 0.0), dict.fromkeys(PHASES, 0.0)
        self.traffic, self.host = 0.0, 0.0
        self.collectives: list[Collective] = []
        self.kernels: list[Kernel] = []
        self.warnings: list[str] = []
        self.visits: dict[str, int] = {}  # two loops or calls may share a computation
        self.seen: set[tuple[str, int, int]] = set()  # (computation, visit, channel)

    def add(self, computation: Computation, instruction: Instruction, times: float) -> None:
        """Adds an instruction that runs `times` times, and the instructions fused in it."""
        if instruction is computation.instructions[0]:
            self.visits[computation.name] = self.visits.get(computation.name, 0) + 1
        phase = phase_of(self.module, instruction)
        if not computation.thread:  # the SparseCore computes beside the device's own thread
            self.cycles[phase] += times * instruction.cycles
        self.traffic += times * traffic_of(self.module, computation, instruction)
        self.host += times * host_bytes(instruction)
        for owner, inner in [(computation, instruction), *self.module.fused(instruction)]:
            self.flops[phase] += times * flops_of(owner, inner)
            if is_kernel(inner):
                self._add_kernel(owner, inner, times, phase)
            if kind_of(inner) and not self._is_repeated(computation, inner):
                apart = owner is not computation or computation.thread or inner.opcode == "send"
                part = phase
                if phase == "other" and not inner.op_name:
                    part = phase_near(self.module, computation, instruction)
                self._add_collective(owner, inner, times, part, bool(apart))

    def _add_kernel(
        self, owner: Computation, kernel: Instruction, times: float, phase: str
    ) -> None:
        flops = kernel_flops(owner, kernel)
        if flops is None:
            self.warnings.append(
                f"kernel {kernel.name} states no cost and none is known: it counts as nothing"
            )
        self.kernels.append(Kernel(kernel.op_name or kernel.name, flops or 0.0, times, phase))

    def _is_repeated(self, computation: Computation, collective: Instruction) -> bool:
        """Whether the collective was added before: an asynchronous one is written again in every
        fusion that carries it on.
        """
        channel = collective.channel
        key = (
            computation.name,
            self.visits[computation.name],
            channel if channel is not None else -1 - len(self.collectives),
        )
        repeated = key in self.seen
        self.seen.add(key)
        return repeated

    def _add_collective(
        self, owner: Computation, collective: Instruction, times: float, phase: str, apart: bool
    ) -> None:
        """`apart`: whether the collective runs beside computation, whatever its opcode says."""
        groups: Sequence[Sequence[int]] = groups_of(
            collective, math.prod(self.sizes.values()), self.places
        )
        members = max(map(len, groups), default=1)
        put_in = float(sum(shape.bytes for shape in owner.operand_shapes(collective)))
        kind = kind_of(collective)
        self.collectives.append(
            Collective(
                kind=kind,
                axes=axes_along(groups, self.sizes),
                members=members,
                bytes=put_in * members if kind == "all-gather" else put_in,
                times=times,
                phase=phase,
                asynchronous=apart or collective.opcode.endswith("-start"),
                groups=tuple(map(tuple, groups)),
                op_name=collective.op_name,
            )
        )
