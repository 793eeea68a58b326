"""A program in XLA's optimized HLO, as data: instructions in computations in a module.

Separate from reading its text (hlo_parser.py), from how often instructions run (loops.py) and from
counting what they cost (costs.py)."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

BYTES = {
    "pred": 1,
    "s4": 0.5,
    "u4": 0.5,
    "s8": 1,
    "u8": 1,
    "s16": 2,
    "u16": 2,
    "s32": 4,
    "u32": 4,
    "s64": 8,
    "u64": 8,
    "f8e4m3fn": 1,
    "f8e5m2": 1,
    "f8e4m3": 1,
    "bf16": 2,
    "f16": 2,
    "f32": 4,
    "f64": 8,
    "c64": 8,
    "c128": 16,
}
# XLA's memory spaces: main memory (on a TPU: HBM; also where the text names none), and the host's.
MAIN, HOST = 0, 5
_CALLED = re.compile(
    r"\b(calls|body|condition|to_apply|branch_computations|true_computation|false_computation)"
    r"=(\{[^}]*\}|%[\w.\-]+)"
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """One array of an instruction. `space` is XLA's memory space: MAIN, 1 for vector memory, HOST,
    and others.
    """

    dtype: str
    dims: tuple[int, ...]
    space: int = MAIN

    @property
    def bytes(self) -> float:
        """Bytes without padding."""
        return float(math.prod(self.dims) * BYTES.get(self.dtype, 0))


@dataclasses.dataclass(frozen=True, eq=False)
class Instruction:
    """One line of a computation. `inside` is the text between the parentheses; `rest` is the text
    after them: attributes, metadata and the backend's configuration.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    inside: str
    rest: str

    @functools.cached_property
    def called(self) -> dict[str, tuple[str, ...]]:
        """Names of computations by role: calls, body, condition, to_apply, branch_computations."""
        return {
            role: tuple(re.findall(r"%([\w.\-]+)", names))
            for role, names in _CALLED.findall(self.rest)
        }

    @functools.cached_property
    def op_name(self) -> str:
        """JAX's path of the operation; "" for an instruction that XLA added."""
        match = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.rest)
        return match[1] if match else ""

    @functools.cached_property
    def cycles(self) -> int:
        """The TPU compiler's estimate for one execution; 0 where it gives none (kernels,
        synchronous collectives).
        """
        match = re.search(r'"estimated_cycles":"(-?\d+)"', self.rest)
        return max(0, int(match[1])) if match else 0

    @functools.cached_property
    def channel(self) -> int | None:
        """A collective's channel, which the parts of one asynchronous collective share."""
        match = re.search(r"\bchannel_id=(\d+)", self.rest)
        return int(match[1]) if match else None

    @property
    def custom_call_target(self) -> str:
        """The target of a custom call, "" for anything else."""
        return self.attribute("custom_call_target").strip('"')

    def attribute(self, name: str) -> str:
        """The text of name={...} (or name=...); "" where the instruction has no such attribute."""
        match = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^,\s]+)", self.rest)
        return match[1] if match else ""

    @property
    def bytes(self) -> float:
        """Bytes of all arrays of the result, in any memory."""
        return float(sum(shape.bytes for shape in self.shapes))

    @property
    def main_bytes(self) -> float:
        """Bytes of the result's arrays in main memory."""
        return float(sum(shape.bytes for shape in self.shapes if shape.space == MAIN))


class Computation:
    """Instructions in order of execution, and by name. `thread` is "" for a computation of the
    device's own thread, "sparsecore" for one that runs on the SparseCore beside it.
    """

    def __init__(self, name: str, instructions: Sequence[Instruction], root: str, thread: str = ""):
        self.name, self.instructions, self.thread = name, list(instructions), thread
        self.by_name = {i.name: i for i in self.instructions}
        self.root_name = root

    @property
    def root(self) -> Instruction:
        """The instruction whose result is the computation's."""
        return self.by_name[self.root_name]

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that use the result of an instruction, by its name."""
        users: dict[str, list[Instruction]] = {}
        for instruction in self.instructions:
            for name in instruction.operands:
                users.setdefault(name, []).append(instruction)
        return users

    def operand_instructions(self, instruction: Instruction) -> list[Instruction]:
        """The instructions whose results are the operands, in order."""
        return [self.by_name[name] for name in instruction.operands if name in self.by_name]

    def operand_shapes(self, instruction: Instruction) -> list[Shape]:
        """The arrays of all operands, in order."""
        return [shape for o in self.operand_instructions(instruction) for shape in o.shapes]


@dataclasses.dataclass(frozen=True, eq=False)
class Module:
    """A program: computations by name, and the name of the one at which it starts."""

    computations: Mapping[str, Computation]
    entry: str

    def fusion_body(self, fusion: Instruction) -> Computation:
        """The computation that a fusion calls."""
        return self.computations[fusion.called["calls"][0]]

    def fused(self, instruction: Instruction) -> Iterator[tuple[Computation, Instruction]]:
        """The instructions inside a fusion, and inside fusions in it; none for an instruction that
        is no fusion.
        """
        if instruction.opcode == "fusion":
            for name in instruction.called.get("calls", ()):
                computation = self.computations[name]
                for inner in computation.instructions:
                    yield computation, inner
                    yield from self.fused(inner)
