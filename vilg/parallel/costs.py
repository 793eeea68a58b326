"""What a compiled program costs a device: floating-point operations, memory traffic, the compiler's cycles, and every collective, with loop
trip counts multiplied in and apart for forward, backward and optimizer.

Separate from hlo.py, which only reads, and from what a step takes on a given chip (estimate.py). Nothing here is measured: FLOPs are
counted from shapes, bytes from shapes without padding, cycles are XLA's own.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from vilg.parallel.hlo import Computation, Instruction, Module, Shape, axes_of, groups_of, kind_of
from vilg.parallel.kernels import is_kernel, kernel_flops

PHASES: tuple[str, ...] = ("forward", "backward", "optimizer", "other")
FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast while conditional call after-all partition-id replica-id opt-barrier "
    "async-start async-update async-done copy-done all-reduce-done all-gather-done collective-permute-done".split()
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of the program. `bytes`: of the whole array that a device puts in or gets (the larger), once; it runs `times` times."""

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
    """A custom kernel, whose cost XLA does not know. `flops`: of one call, by kernels.py; 0, with a warning, where nothing is known."""

    name: str
    flops: float
    times: float
    phase: str


@dataclasses.dataclass(frozen=True)
class Costs:
    """Of one device and one execution of the program. `flops` are those of matrix products and convolutions, kernels' own estimates apart;
    `traffic`: bytes to and from main memory; `warnings`: what could not be counted."""

    flops: Mapping[str, float]
    cycles: Mapping[str, float]
    traffic: float
    collectives: tuple[Collective, ...]
    kernels: tuple[Kernel, ...]
    warnings: tuple[str, ...]

    @property
    def total_flops(self) -> float:
        """With the kernels'."""
        return float(sum(self.flops.values()) + sum(k.flops * k.times for k in self.kernels))

    def table(self, *, phase: str | None = None) -> dict[str, dict[str, dict[str, float]]]:
        """{mesh axes: {kind: {"count", "bytes"}}}, trip counts multiplied in; of one phase, or of all."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for c in self.collectives:
            if phase is None or c.phase == phase:
                entry = found.setdefault(c.axis, {}).setdefault(c.kind, {"count": 0.0, "bytes": 0.0})
                entry["count"] += c.times
                entry["bytes"] += c.times * c.bytes
        return found


def count(module: Module, sizes: Mapping[str, int]) -> Costs:
    """The costs of a program on a mesh of these sizes."""
    devices = math.prod(sizes.values())
    flops, cycles = dict.fromkeys(PHASES, 0.0), dict.fromkeys(PHASES, 0.0)
    traffic = 0.0
    warnings: list[str] = []
    collectives: list[Collective] = []
    kernels: list[Kernel] = []
    seen: set[tuple[str, int]] = set()
    for computation, instruction, times in module.walk(warnings):
        phase = phase_of(module, instruction)
        cycles[phase] += times * instruction.cycles
        traffic += times * moved(module, computation, instruction)
        inside = [(computation, instruction), *module.fused(instruction)]
        for owner, one in inside:
            flops[phase] += times * flops_of(owner, one)
            if is_kernel(one):
                known = kernel_flops(owner, one)
                if known is None:
                    warnings.append(f"kernel {one.name} states no cost and none is known: it counts as nothing")
                kernels.append(Kernel(one.op_name or one.name, known or 0.0, times, phase))
            if kind_of(one):
                key = (computation.name, one.channel if one.channel is not None else -1 - len(collectives))
                if key in seen:
                    continue  # an asynchronous collective is repeated in every fusion that carries it on
                seen.add(key)
                collectives.append(_collective(owner, one, times, phase, owner is not computation, sizes, devices))
    return Costs(flops, cycles, traffic, tuple(collectives), tuple(kernels), tuple(dict.fromkeys(warnings)))


def phase_of(module: Module, instruction: Instruction) -> str:
    """Forward, backward (recomputation too), optimizer, or other: from JAX's path; of a fusion without one, from what is in it."""
    names = [instruction.op_name] if instruction.op_name else [inner.op_name for _, inner in module.fused(instruction) if inner.op_name]
    votes = [
        "optimizer" if "/optimizer/" in n else "backward" if "transpose(" in n else "forward" if "jvp(" in n else "other" for n in names
    ]
    return max(PHASES, key=votes.count) if votes else "other"


# --- floating-point operations ---------------------------------------------------------------------------------------------


def flops_of(computation: Computation, instruction: Instruction) -> float:
    """2 x multiply-adds of a dot or a convolution, positions in padding and in a dilation's gaps not counted; 0 for anything else."""
    if instruction.opcode == "dot":
        left = computation.by_name[instruction.operands[0]].shapes[0]
        contracted = [int(d) for d in re.findall(r"\d+", instruction.attribute("lhs_contracting_dims"))]
        return 2.0 * math.prod(instruction.shapes[0].dims) * math.prod(left.dims[d] for d in contracted)
    if instruction.opcode == "convolution":
        return _convolution(computation, instruction)
    return 0.0


def _convolution(computation: Computation, instruction: Instruction) -> float:
    """A convolution's operations: of every output feature and batch entry, the valid pairs of output and kernel positions."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest)
    if labels is None:
        return 0.0
    left, kernel = (computation.by_name[name].shapes[0].dims for name in instruction.operands[:2])
    out = instruction.shapes[0].dims
    lhs, rhs, result = labels.groups()
    total = 2.0 * out[result.index("b")] * out[result.index("f")] * kernel[rhs.index("i")]
    window = {k: v for k, v in re.findall(r"(size|stride|pad|lhs_dilate|rhs_dilate)=([\dx_\-]+)", instruction.attribute("window"))}
    spatial = sorted(c for c in result if c.isdigit())
    for k, label in enumerate(spatial):
        size = _at(window, "size", k, kernel[rhs.index(label)])
        pad = [int(n) for n in window["pad"].split("x")[k].split("_")] if "pad" in window else [0, 0]
        total *= _valid(
            out[result.index(label)], size, left[lhs.index(label)], _at(window, "stride", k, 1), pad[0], _at(window, "lhs_dilate", k, 1),
            _at(window, "rhs_dilate", k, 1),
        )  # fmt: skip
    groups = int(instruction.attribute("batch_group_count") or 1)
    return total / groups if groups > 1 and left[lhs.index("b")] != out[result.index("b")] * groups else total


def _at(window: Mapping[str, str], name: str, k: int, default: int) -> int:
    return int(window[name].split("x")[k]) if name in window else default


def _valid(out: int, size: int, length: int, stride: int, pad: int, dilate: int, kernel_dilate: int) -> int:
    """Pairs of an output and a kernel position that meet a real input position."""
    at = np.arange(out)[:, None] * stride + np.arange(size) * kernel_dilate - pad
    return int(np.count_nonzero((at >= 0) & (at <= (length - 1) * dilate) & (at % dilate == 0)))


# --- memory ----------------------------------------------------------------------------------------------------------------


def moved(module: Module, computation: Computation, instruction: Instruction) -> float:
    """Bytes between main memory and the core: operands read and results written that live in main memory, slices counted as what is sliced."""
    if instruction.opcode in FREE or kind_of(instruction):
        return 0.0
    if instruction.opcode in ("dynamic-slice", "slice", "gather"):
        return 2 * _main(instruction.shapes)
    if instruction.opcode == "dynamic-update-slice":
        return 2 * _main(computation.by_name[instruction.operands[1]].shapes)
    operands = [computation.by_name[name].shapes for name in instruction.operands if name in computation.by_name]
    if instruction.opcode != "fusion":
        return sum(map(_main, operands), 0.0) + _main(instruction.shapes)
    inner = module.computations[instruction.called["calls"][0]]
    parameters = {int(i.literal): i for i in inner.instructions if i.opcode == "parameter"}
    read = 0.0
    for k, shapes in enumerate(operands):
        users = [i for i in inner.instructions if k in parameters and parameters[k].name in i.operands]
        sliced = [i for i in users if i.opcode in ("dynamic-slice", "slice", "gather") and i.operands[0] == parameters[k].name]
        updated = [i for i in users if i.opcode == "dynamic-update-slice" and i.operands[0] == parameters[k].name]
        if users and len(sliced) + len(updated) == len(users):
            read += min(_main(shapes), sum(i.bytes for i in sliced)) if _main(shapes) else 0.0
        else:
            read += _main(shapes)
    root = inner.by_name[inner.root]
    written = _main(instruction.shapes)
    if root.opcode == "dynamic-update-slice" and written:
        written = min(written, inner.by_name[root.operands[1]].bytes)
    return read + written


def _main(shapes: Sequence[Shape]) -> float:
    return float(sum(shape.bytes for shape in shapes if shape.space == 0))


# --- collectives -----------------------------------------------------------------------------------------------------------


def _collective(
    owner: Computation, instruction: Instruction, times: float, phase: str, inside: bool, sizes: Mapping[str, int], devices: int
) -> Collective:
    groups = groups_of(instruction, devices)
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
        asynchronous=inside or instruction.opcode.endswith("-start"),
        groups=tuple(map(tuple, groups)),
        op_name=instruction.op_name,
    )


# --- what is alive at once --------------------------------------------------------------------------------------------------

ALIASES = frozenset("tuple get-tuple-element bitcast while conditional optimization-barrier opt-barrier copy-done async-done".split())


@dataclasses.dataclass(frozen=True)
class Buffer:
    """An array that is alive when memory is fullest: what makes it, and in which phase."""

    bytes: float
    shape: str
    name: str
    phase: str


def fullest(module: Module) -> list[Buffer]:
    """The arrays in main memory, made by the program itself, that are alive when the most of it is in use; largest first.

    The schedule of the entry computation is gone through once; what loops hold inside is not seen, and an array that is updated in place
    counts once. Good for names and proportions; totals are the compiler's own.
    """
    entry = module.computations[module.entry]
    owner: dict[str, tuple[str, ...]] = {}
    last: dict[str, int] = {}
    for k, instruction in enumerate(entry.instructions):
        sources = tuple(dict.fromkeys(o for name in instruction.operands for o in owner.get(name, ())))
        for source in sources:
            last[source] = k
        if instruction.opcode == "parameter" or instruction.opcode == "constant":
            owner[instruction.name] = ()
        elif instruction.opcode in ALIASES or instruction.opcode == "dynamic-update-slice":
            owner[instruction.name] = sources
        else:
            owner[instruction.name] = (instruction.name,)
            last[instruction.name] = k
    ends: dict[int, list[str]] = {}
    for name, k in last.items():
        ends.setdefault(k, []).append(name)
    alive: dict[str, float] = {}
    now, most, best = 0.0, 0.0, {}
    for k, instruction in enumerate(entry.instructions):
        size = _main(instruction.shapes) if owner[instruction.name] == (instruction.name,) else 0.0
        if size:
            alive[instruction.name] = size
            now += size
            if now > most:
                most, best = now, dict(alive)
        for name in ends.get(k, ()):
            now -= alive.pop(name, 0.0)
    found = []
    for name, size in best.items():
        made = entry.by_name[name]
        shape = ", ".join(f"{s.dtype}[{','.join(map(str, s.dims))}]" for s in made.shapes if s.space == 0)
        found.append(Buffer(size, shape, made.op_name or name, phase_of(module, made)))
    return sorted(found, key=lambda b: -b.bytes)
