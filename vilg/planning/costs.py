"""What a compiled program costs a device: floating-point operations, memory traffic, the compiler's
cycles, and every collective, with loop trip counts multiplied in and apart for forward, backward
and optimizer.

Separate from hlo.py, which only reads, and from what a step takes on a given chip (estimate.py).
Nothing here is measured: FLOPs are counted from shapes, bytes from shapes without padding, cycles
are XLA's own."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from vilg.planning.hlo import Computation, Instruction, Module, axes_of, groups_of, kind_of
from vilg.planning.kernels import is_kernel, kernel_flops
from vilg.planning.memory import moved, visiting
from vilg.planning.phases import PHASES, phase_near, phase_of


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of the program. `bytes`: of the whole array that a device puts in or gets (the
    larger), once; it runs `times` times.
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
        """The mesh axes joined: "data", "data+model"; "none" where nobody talks to anybody."""
        return "+".join(self.axes) or "none"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A custom kernel, whose cost XLA does not know. `flops`: of one call, by kernels.py; 0, with a
    warning, where nothing is known.
    """

    name: str
    flops: float
    times: float
    phase: str


@dataclasses.dataclass(frozen=True)
class Costs:
    """Of one device and one execution of the program. `flops` are those of matrix products and
    convolutions, kernels' own estimates apart; `traffic`: bytes to and from main memory;
    `warnings`: what could not be counted; `host`: bytes to and from the host's memory."""

    flops: Mapping[str, float]
    cycles: Mapping[str, float]
    traffic: float
    collectives: tuple[Collective, ...]
    kernels: tuple[Kernel, ...]
    warnings: tuple[str, ...]
    host: float = 0.0

    @property
    def total_flops(self) -> float:
        """With the kernels'."""
        return float(sum(self.flops.values()) + sum(k.flops * k.times for k in self.kernels))

    def table(self, *, phase: str | None = None) -> dict[str, dict[str, dict[str, float]]]:
        """{mesh axes: {kind: {"count", "bytes"}}}, trip counts multiplied in; of one phase, or of
        all.
        """
        found: dict[str, dict[str, dict[str, float]]] = {}
        for c in self.collectives:
            if phase is None or c.phase == phase:
                entry = found.setdefault(c.axis, {}).setdefault(
                    c.kind, {"count": 0.0, "bytes": 0.0}
                )
                entry["count"] += c.times
                entry["bytes"] += c.times * c.bytes
        return found


def count(
    module: Module, sizes: Mapping[str, int], places: Mapping[tuple[int, int], int] | None = None
) -> Costs:
    """The costs of a program on a mesh of these sizes; `places` as in hlo.groups_of."""
    devices = math.prod(sizes.values())
    flops, cycles = dict.fromkeys(PHASES, 0.0), dict.fromkeys(PHASES, 0.0)
    traffic, host = 0.0, 0.0
    warnings: list[str] = []
    collectives: list[Collective] = []
    kernels: list[Kernel] = []
    seen: set[tuple[str, int, int]] = set()
    visits: dict[str, int] = {}  # two loops or calls may share a computation
    for computation, instruction, times in module.walk(warnings):
        visits[computation.name] = visits.get(computation.name, 0) + (
            instruction is computation.instructions[0]
        )
        phase = phase_of(module, instruction)
        cycles[phase] += (
            times * instruction.cycles if not computation.thread else 0
        )  # the SparseCore computes beside
        traffic += times * moved(module, computation, instruction)
        host += times * visiting(instruction)
        inside = [(computation, instruction), *module.fused(instruction)]
        for owner, one in inside:
            flops[phase] += times * flops_of(owner, one)
            if is_kernel(one):
                known = kernel_flops(owner, one)
                if known is None:
                    warnings.append(
                        f"kernel {one.name} states no cost and none is known: it counts as nothing"
                    )
                kernels.append(Kernel(one.op_name or one.name, known or 0.0, times, phase))
            if kind_of(one):
                key = (
                    computation.name,
                    visits[computation.name],
                    one.channel if one.channel is not None else -1 - len(collectives),
                )
                if key in seen:
                    # an asynchronous collective is repeated in every fusion that carries it on
                    continue
                seen.add(key)
                beside = (
                    owner is not computation or bool(computation.thread) or one.opcode == "send"
                )
                part = (
                    phase
                    if phase != "other" or one.op_name
                    else phase_near(module, computation, instruction)
                )
                collectives.append(
                    _collective(
                        owner, one, times, part, beside, sizes, groups_of(one, devices, places)
                    )
                )
    return Costs(
        flops,
        cycles,
        traffic,
        tuple(collectives),
        tuple(kernels),
        tuple(dict.fromkeys(warnings)),
        host,
    )


# --- floating-point operations --------------------------------------------------------------------


def flops_of(computation: Computation, instruction: Instruction) -> float:
    """2 x multiply-adds of a dot or a convolution, positions in padding and in a dilation's gaps
    not counted; 0 for anything else.
    """
    if instruction.opcode == "dot":
        left = computation.by_name[instruction.operands[0]].shapes[0]
        contracted = [
            int(d) for d in re.findall(r"\d+", instruction.attribute("lhs_contracting_dims"))
        ]
        return (
            2.0
            * math.prod(instruction.shapes[0].dims)
            * math.prod(left.dims[d] for d in contracted)
        )
    if instruction.opcode == "convolution":
        return _convolution(computation, instruction)
    return 0.0


def _convolution(computation: Computation, instruction: Instruction) -> float:
    """A convolution's operations: of every output feature and batch entry, the valid pairs of
    output and kernel positions.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest)
    if labels is None:
        return 0.0
    left, kernel = (computation.by_name[name].shapes[0].dims for name in instruction.operands[:2])
    out = instruction.shapes[0].dims
    lhs, rhs, result = labels.groups()
    total = 2.0 * out[result.index("b")] * out[result.index("f")] * kernel[rhs.index("i")]
    window = {
        k: v
        for k, v in re.findall(
            r"(size|stride|pad|lhs_dilate|rhs_dilate)=([\dx_\-]+)", instruction.attribute("window")
        )
    }
    spatial = sorted(c for c in result if c.isdigit())
    for k, label in enumerate(spatial):
        size = _at(window, "size", k, kernel[rhs.index(label)])
        pad = (
            [int(n) for n in window["pad"].split("x")[k].split("_")] if "pad" in window else [0, 0]
        )
        total *= _valid(
            out[result.index(label)],
            size,
            left[lhs.index(label)],
            _at(window, "stride", k, 1),
            pad[0],
            _at(window, "lhs_dilate", k, 1),
            _at(window, "rhs_dilate", k, 1),
        )
    groups = int(instruction.attribute("batch_group_count") or 1)
    return (
        total / groups
        if groups > 1 and left[lhs.index("b")] != out[result.index("b")] * groups
        else total
    )


def _at(window: Mapping[str, str], name: str, k: int, default: int) -> int:
    return int(window[name].split("x")[k]) if name in window else default


def _valid(
    out: int, size: int, length: int, stride: int, pad: int, dilate: int, kernel_dilate: int
) -> int:
    """Pairs of an output and a kernel position that meet a real input position."""
    at = np.arange(out)[:, None] * stride + np.arange(size) * kernel_dilate - pad
    return int(np.count_nonzero((at >= 0) & (at <= (length - 1) * dilate) & (at % dilate == 0)))


# --- collectives ----------------------------------------------------------------------------------


def _collective(
    owner: Computation,
    instruction: Instruction,
    times: float,
    phase: str,
    beside: bool,
    sizes: Mapping[str, int],
    groups: Sequence[Sequence[int]],
) -> Collective:
    members = max(map(len, groups), default=1)
    put_in = float(sum(shape.bytes for shape in owner.operand_shapes(instruction)))
    kind = kind_of(instruction)
    return Collective(
        kind=kind,
        axes=axes_of(groups, sizes),
        members=members,
        bytes=put_in * members if kind == "all-gather" else put_in,
        times=times,
        phase=phase,
        asynchronous=beside or instruction.opcode.endswith("-start"),
        groups=tuple(map(tuple, groups)),
        op_name=instruction.op_name,
    )
