"""XLA's optimized HLO as text -> instructions, and how often each of them runs.

Separate from what is made of it (costs.py), because reading is where plans go wrong: a loop's body
is printed once and runs many times, a computation ends at a line that is exactly "}", or "}" and
the thread that it runs on (kernels print other lines that begin so inside one), and collectives
come in five spellings of groups."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

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
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_ARRAY = re.compile(r"\b([a-z]+[0-9]*[a-z0-9]*)\[([0-9,<=]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_BETWEEN_SLICES = re.compile(
    r'_xla_megascale_transfer_type="(\w+)"'
)  # libtpu's runtime of the data-centre network
_CALLED = re.compile(
    r"\b(calls|body|condition|to_apply|branch_computations|true_computation|false_computation)=(\{[^}]*\}|%[\w.\-]+)"
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """One array of an instruction. `space`: XLA's memory space, 0 where nothing is said (on TPU:
    HBM), 1 vector memory, 5 the host's.
    """

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def bytes(self) -> float:
        """Without padding."""
        return float(math.prod(self.dims) * BYTES.get(self.dtype, 0))


@dataclasses.dataclass(frozen=True, eq=False)
class Instruction:
    """A line. `rest` is all that follows the operands: attributes, metadata and the backend's
    configuration.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    literal: str  # what stands between the parentheses
    rest: str

    @functools.cached_property
    def called(self) -> dict[str, tuple[str, ...]]:
        """Names of computations by role: calls, body, condition, to_apply, branch_computations."""
        return {role: tuple(_NAME.findall(names)) for role, names in _CALLED.findall(self.rest)}

    @functools.cached_property
    def op_name(self) -> str:
        """JAX's path of the operation, "" where XLA made it up."""
        found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.rest)
        return found[1] if found else ""

    @functools.cached_property
    def cycles(self) -> int:
        """The TPU compiler's own estimate for one execution; 0 where it says nothing (kernels,
        synchronous collectives).
        """
        found = re.search(r'"estimated_cycles":"(-?\d+)"', self.rest)
        return max(0, int(found[1])) if found else 0

    @functools.cached_property
    def channel(self) -> int | None:
        """The collective's channel, which the parts of one asynchronous collective share."""
        found = re.search(r"\bchannel_id=(\d+)", self.rest)
        return int(found[1]) if found else None

    def attribute(self, name: str) -> str:
        """The text of name={...} (or name=...), "" where there is none."""
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^,\s]+)", self.rest)
        return found[1] if found else ""

    @property
    def bytes(self) -> float:
        """All arrays of the result."""
        return float(sum(shape.bytes for shape in self.shapes))


class Computation:
    """Instructions in order of execution, and by name. `thread`: "" for the device's own,
    "sparsecore" for what runs beside it.
    """

    def __init__(self, name: str, instructions: Sequence[Instruction], root: str, thread: str = ""):
        self.name, self.instructions, self.root, self.thread = (
            name,
            list(instructions),
            root,
            thread,
        )
        self.by_name = {i.name: i for i in self.instructions}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Who takes the result of an instruction, by its name."""
        found: dict[str, list[Instruction]] = {}
        for instruction in self.instructions:
            for name in instruction.operands:
                found.setdefault(name, []).append(instruction)
        return found

    def operand_shapes(self, instruction: Instruction) -> list[Shape]:
        """The arrays of all operands, in order."""
        return [
            shape
            for name in instruction.operands
            if name in self.by_name
            for shape in self.by_name[name].shapes
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class Module:
    """A parsed program."""

    computations: Mapping[str, Computation]
    entry: str

    def walk(self, warnings: list[str]) -> Iterator[tuple[Computation, Instruction, float]]:
        """Every instruction that is executed by itself, with its computation and how often it runs:
        loops are multiplied out (one whose trip count is not known counts once, with a warning), of
        a conditional's branches all are visited (no run takes all of them, so their sum is an upper
        bound), and what is fused is visited only by `fused`."""
        yield from self._walk(self.entry, 1.0, warnings)

    def _walk(
        self, name: str, times: float, warnings: list[str]
    ) -> Iterator[tuple[Computation, Instruction, float]]:
        computation = self.computations[name]
        for instruction in computation.instructions:
            yield computation, instruction, times
            if instruction.opcode == "while":
                try:
                    trips = self.trips(computation, instruction)
                except ValueError as error:
                    warnings.append(f"{error}; its body is counted once")
                    trips = 1
                for body in instruction.called.get("body", ()):
                    yield from self._walk(body, times * trips, warnings)
            elif instruction.opcode in ("call", "call-start", "conditional", "async-start"):
                for role, names in instruction.called.items():
                    for one in (
                        names if role != "to_apply" or instruction.opcode.startswith("call") else ()
                    ):
                        yield from self._walk(one, times, warnings)

    def fused(self, instruction: Instruction) -> Iterator[tuple[Computation, Instruction]]:
        """The instructions inside a fusion, fusions in it opened too; the instruction itself must
        be a fusion, else nothing.
        """
        if instruction.opcode == "fusion":
            for name in instruction.called.get("calls", ()):
                computation = self.computations[name]
                for inner in computation.instructions:
                    yield computation, inner
                    yield from self.fused(inner)

    def trips(self, computation: Computation, loop: Instruction) -> int:
        """How often a while loop's body runs: XLA's known_trip_count, else the constant that its
        condition compares the counter with.

        Errors: ValueError where neither is there (a loop whose end depends on data).
        """
        known = re.search(r'known_trip_count[":={]*n[":]*\s*"?(\d+)', loop.rest)
        if known:
            return int(known[1])
        condition = self.computations[loop.called["condition"][0]]
        compare = self._compared(condition)
        if compare is None:
            raise ValueError(
                f"{loop.name}: no trip count is known and its condition compares with no constant"
            )
        counter, limit = compare
        return max(0, limit - self._start(computation, loop, counter))

    def _compared(self, condition: Computation) -> tuple[int, int] | None:
        """(index of the counter in the loop's tuple, the constant that it stays below)."""
        root = condition.by_name[condition.root]
        inner = condition
        if root.opcode == "fusion":
            inner = self.computations[root.called["calls"][0]]
            root = inner.by_name[inner.root]
        if root.opcode != "compare" or len(root.operands) != 2:
            return None
        index, limit = 0, None
        for name in root.operands:
            found = self._outside(condition, inner, name)
            if found is not None and found.opcode == "constant":
                limit = int(found.literal)
            elif found is not None and found.opcode == "get-tuple-element":
                index = int(found.attribute("index") or 0)
        if limit is None:
            return None
        return index, limit + (1 if "direction=LE" in root.rest else 0)

    def _outside(self, condition: Computation, inner: Computation, name: str) -> Instruction | None:
        """What an operand of a fused comparison is: its fusion's operand where it is a parameter of
        that; converts and copies are looked through."""
        found = inner.by_name.get(name)
        while found is not None and found.opcode in ("convert", "copy", "bitcast"):
            found = inner.by_name.get(found.operands[0])
        if found is not None and found.opcode == "parameter" and inner is not condition:
            fusion = condition.by_name[condition.root]
            return self._outside(condition, condition, fusion.operands[int(found.literal)])
        return found

    @staticmethod
    def _start(computation: Computation, loop: Instruction, counter: int) -> int:
        """The counter's first value, 0 where it cannot be seen."""
        state = computation.by_name.get(loop.operands[0]) if loop.operands else None
        if state is None or state.opcode != "tuple" or counter >= len(state.operands):
            return 0
        first = computation.by_name.get(state.operands[counter])
        while first is not None and first.opcode in ("copy", "convert", "bitcast"):
            first = computation.by_name.get(first.operands[0])
        return (
            int(first.literal)
            if first is not None
            and first.opcode == "constant"
            and first.literal.lstrip("-").isdigit()
            else 0
        )


def parse(text: str) -> Module:
    """The module of `compiled.as_text()`, or of an HLO dump.

    Errors: ValueError where there is no ENTRY computation.
    """
    computations: dict[str, Computation] = {}
    entry = name = ""
    lines: list[str] = []
    for line in text.splitlines():
        if not name:
            found = (
                re.match(r"(ENTRY )?%?([\w.\-]+) .*\{\s*$", line)
                if line[:1] in ("%", "E") or " -> " in line
                else None
            )
            if found and not line.startswith(" "):
                name, lines = found[2], []
                entry = name if found[1] else entry
        elif ends := re.fullmatch(r'\}(?:, execution_thread="(\w+)")?', line):
            computations[name] = _computation(name, lines, ends[1] or "")
            name = ""
        elif line.startswith(("  %", "  ROOT %")):
            lines.append(line)
        elif lines:
            lines[-1] += line  # a kernel's configuration that goes over several lines
    if not entry:
        raise ValueError("the text holds no ENTRY computation: it is no HLO module")
    return Module(computations, entry)


def _computation(name: str, lines: Sequence[str], thread: str) -> Computation:
    instructions, root = [], ""
    for line in lines:
        instruction = _instruction(line)
        instructions.append(instruction)
        if line.startswith("  ROOT"):
            root = instruction.name
    return Computation(
        name,
        instructions,
        root or (instructions[-1].name if instructions else ""),
        thread if thread != "main" else "",
    )


def _instruction(line: str) -> Instruction:
    left, _, right = line.strip().removeprefix("ROOT ").partition(" = ")
    if right.startswith("("):
        stop = _closing(right, 0) + 1
    else:
        stop = right.index(" ")
    shape, call = right[:stop], right[stop:].lstrip()
    opening = call.index("(")
    closing = _closing(call, opening)
    inside = call[opening + 1 : closing]
    return Instruction(
        left.lstrip("%"),
        call[:opening],
        _shapes(shape),
        tuple(_NAME.findall(inside)),
        inside,
        call[closing + 1 :],
    )


def _closing(text: str, opening: int) -> int:
    """The index of the parenthesis that closes the one at `opening`."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    return len(text) - 1


def _shapes(text: str) -> tuple[Shape, ...]:
    found = []
    for dtype, dims, layout in _ARRAY.findall(text):
        space = re.search(r"S\((\d+)\)", layout or "")
        sizes = tuple(int(d.lstrip("<=")) for d in dims.split(",") if d)
        found.append(Shape(dtype, sizes, int(space[1]) if space else 0))
    return tuple(found)


# --- collectives ----------------------------------------------------------------------------------


def kind_of(instruction: Instruction) -> str:
    """The collective's kind ("all-gather" also for its asynchronous start, and for the sending half
    of one between slices), "" for anything else.
    """
    name = instruction.opcode.removesuffix("-start")
    if name == "send":
        found = _BETWEEN_SLICES.search(instruction.rest)
        name = (
            {"one-to-one": "collective-permute"}.get(
                name := found[1].lower().replace("_", "-"), name
            )
            if found
            else ""
        )
    return name if name in COLLECTIVES else ""


def groups_of(
    instruction: Instruction, devices: int, places: Mapping[tuple[int, int], int] | None = None
) -> list[list[int]]:
    """The device positions that talk to each other; for a permutation the pairs. `places`: the
    position of each (slice, chip), where there are several slices (else they lie in the mesh one
    after another).

    Errors: ValueError for a spelling that is not known.
    """
    if instruction.opcode == "send":
        return _slice_groups(instruction, devices, places)
    if kind_of(instruction) == "collective-permute":
        pairs = re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", instruction.rest)
        return (
            [[int(a), int(b)] for a, b in re.findall(r"\{(\d+),(\d+)\}", pairs[1])] if pairs else []
        )
    found = re.search(r"replica_groups=", instruction.rest)
    if not found:
        return [list(range(devices))]
    text = instruction.rest[found.end() :]
    if text.startswith("{}"):
        return [list(range(devices))]
    if text.startswith("{{"):
        return [
            [int(i) for i in group.split(",")]
            for group in re.findall(r"\{([\d,]+)\}", text[: text.index("}}") + 2])
        ]
    iota = re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if iota:
        shape, source = ([int(i) for i in part.split(",")] for part in iota.groups()[:2])
        ids = np.arange(math.prod(source)).reshape(source)
        if iota[3]:
            ids = ids.transpose([int(i) for i in iota[3].split(",")])
        return ids.reshape(shape).tolist()
    mesh = re.match(
        r"mesh\[([^\]]*)\](?:,?"
        r" device_ids=\((\[[^\]]*\](?:T\([^)]*\))?|[\d,]*)\))?,?\s*\{([^}]*)\}",
        text,
    )
    if mesh:
        return _mesh_groups(mesh[1], mesh[2], mesh[3])
    raise ValueError(
        f"{instruction.name}: replica_groups are written in a way that is not known: {text[:80]}"
    )


def _slice_groups(
    instruction: Instruction, devices: int, places: Mapping[tuple[int, int], int] | None
) -> list[list[int]]:
    """The groups of a transfer between slices, in positions of the mesh: of "{1,2}x{0:3}", one
    group of two slices, in which each chip from 0 to 3 talks to the same of the other; of
    {{100000,200003},...}, lists of slice (from 1) x 100,000 + chip; of {{100000->200003},...},
    pairs of these."""
    text = re.search(
        r'_xla_megascale_target=(?:"([^"]*)"|(\{(?:\{[\d,>\-]*\},?)*\}))', instruction.rest
    )
    target = (text[1] or text[2]) if text else ""
    whole = re.fullmatch(r"\{(\d+),(\d+)\}x\{(\d+):(\d+)\}", target)
    if whole:
        groups, members, first, last = map(int, whole.groups())
        listed = [
            [(g * members + m, k) for m in range(members)]
            for g in range(groups)
            for k in range(first, last + 1)
        ]
        slices = groups * members
    else:
        ids = [
            [divmod(int(i), 100_000) for i in re.findall(r"\d+", group)]
            for group in re.findall(r"\{([\d,>\-]+)\}", target)
        ]
        listed = [[(slice_ - 1, chip) for slice_, chip in group] for group in ids]
        slices = 1 + max((slice_ for group in listed for slice_, _ in group), default=0)
    if not listed or any(slice_ < 0 for group in listed for slice_, _ in group):
        raise ValueError(
            f"{instruction.name}: a transfer between slices is written in a way that is not known:"
            f" {target or instruction.rest[:200]}"
        )
    size = devices // slices
    return [
        [places[member] if places else member[0] * size + member[1] for member in group]
        for group in listed
    ]


def _mesh_groups(axes: str, ids: str | None, along: str) -> list[list[int]]:
    """The groups of mesh['a'=4,'b'=8] {'a','b':(2)4}: those who differ in the named axes only;
    'b':(2)4 is a part of b, the factor 4 of it that varies faster than a factor of 2 before it."""
    sizes = {name: int(size) for name, size in re.findall(r"'?([\w.]+)'?=(\d+)", axes)}
    source = _device_ids(ids) if ids else np.arange(math.prod(sizes.values()))
    parts = [
        (name, int(before or 1), int(size or sizes[name]))
        for name, before, size in re.findall(r"'?([\w.]+)'?(?::\((\d+)\)(\d+))?", along)
    ]
    shape, inside = [], []
    for name, size in sizes.items():
        mine = [(before, before * factor) for n, before, factor in parts if n == name]
        cuts = sorted({1, size, *(cut for part in mine for cut in part)})
        for low, high in zip(cuts, cuts[1:], strict=False):
            inside += (
                [len(shape)] if any(first <= low and high <= last for first, last in mine) else []
            )
            shape.append(high // low)
    outside = [k for k in range(len(shape)) if k not in inside]
    count = math.prod(shape[k] for k in inside)
    return source.reshape(shape).transpose(outside + inside).reshape(-1, count).tolist()


def _device_ids(text: str) -> np.ndarray:
    """The ids of "0,2,1,3", or of "[4,2]T(1,0)": an order of all devices."""
    iota = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if not iota:
        return np.array([int(i) for i in text.split(",")])
    shape = [int(i) for i in iota[1].split(",")]
    ids = np.arange(math.prod(shape)).reshape(shape)
    return (
        ids.transpose([int(i) for i in iota[2].split(",")]).reshape(-1)
        if iota[2]
        else ids.reshape(-1)
    )


def axes_of(groups: Sequence[Sequence[int]], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """The mesh axes along which members of a group differ; positions count the mesh in row-major
    order.
    """
    names, shape = list(sizes), tuple(sizes.values())
    differ = set()
    for group in groups:
        coordinates = np.stack(np.unravel_index(np.array(group), shape), 1)
        differ |= {names[k] for k in range(len(names)) if len(set(coordinates[:, k])) > 1}
    return tuple(name for name in names if name in differ)
