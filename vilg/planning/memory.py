"""The arrays that a compiled program holds when most of main memory is in use."""

import dataclasses

from vilg.planning.hlo import MAIN, Computation, Instruction, Module
from vilg.planning.in_place import UPDATE, fusion_results
from vilg.planning.phases import phase_of

ALIASES = frozenset(
    "tuple get-tuple-element bitcast while conditional optimization-barrier opt-barrier copy-done"
    " async-done call-done".split()
)


@dataclasses.dataclass(frozen=True)
class Buffer:
    """An array that is alive at the peak: its bytes and shape, and the name and the phase of the
    instruction that makes it.
    """

    bytes: float
    shape: str
    name: str
    phase: str


def buffers_at_peak(module: Module) -> list[Buffer]:
    """The arrays in main memory, made by the program itself, that are alive when most of it is in
    use; the largest first.

    The schedule is gone through once, bodies of loops included. An array that is updated in place
    counts once. The result is good for names and proportions; the compiler knows the totals."""
    return sorted(_buffers_at_peak(module, module.entry), key=lambda b: -b.bytes)


def _buffers_at_peak(module: Module, name: str) -> list[Buffer]:
    """The buffers that a computation makes; its parameters are its caller's."""
    computation = module.computations[name]
    allocated = {i.name: _allocated_bytes(module, i) for i in computation.instructions}
    sources = _sources(computation, allocated)
    ends = _last_uses(computation, sources)
    makers: dict[str, Instruction] = {}  # of a buffer that a loop fills: the instruction that does
    alive: dict[str, float] = {}
    now = peak = 0.0
    at_peak: dict[str, float] = {}
    inside: list[Buffer] = []  # buffers at the peak that the body of a loop makes
    for k, instruction in enumerate(computation.instructions):
        size = allocated[instruction.name] if instruction.name in sources[instruction.name] else 0.0
        if size:
            alive[instruction.name] = size
            now += size
        body: list[Buffer] = []
        if instruction.opcode == "while":
            body = _buffers_at_peak(module, instruction.called["body"][0])
            for operand, maker in _stacked_by(module, computation, instruction).items():
                makers |= dict.fromkeys(sources[operand], maker)
        if now + sum(b.bytes for b in body) > peak:
            peak, at_peak, inside = now + sum(b.bytes for b in body), dict(alive), body
        for buffer in ends.get(k, ()):
            now -= alive.pop(buffer, 0.0)
    buffers = list(inside)
    for buffer, size in at_peak.items():
        shapes = [s for s in computation.by_name[buffer].shapes if s.space == MAIN]
        shape = ", ".join(f"{s.dtype}[{','.join(map(str, s.dims))}]" for s in shapes)
        maker = makers.get(buffer, computation.by_name[buffer])
        buffers.append(Buffer(size, shape, maker.op_name or buffer, phase_of(module, maker)))
    return buffers


def _sources(computation: Computation, allocated: dict[str, float]) -> dict[str, tuple[str, ...]]:
    """For each instruction, the instructions whose buffers hold its result: itself if it allocates
    one, and those behind views and updates in place; none for parameters and constants.
    """
    sources: dict[str, tuple[str, ...]] = {}
    for instruction in computation.instructions:
        before = _merged(sources, instruction)
        if instruction.opcode in ("parameter", "constant"):
            sources[instruction.name] = ()
        elif instruction.opcode in ALIASES or instruction.opcode == UPDATE:
            sources[instruction.name] = before
        else:
            in_place = allocated[instruction.name] < instruction.main_bytes
            sources[instruction.name] = (instruction.name, *(before if in_place else ()))
    return sources


def _merged(sources: dict[str, tuple[str, ...]], instruction: Instruction) -> tuple[str, ...]:
    """The buffers of all operands, each once."""
    return tuple(dict.fromkeys(s for name in instruction.operands for s in sources.get(name, ())))


def _last_uses(
    computation: Computation, sources: dict[str, tuple[str, ...]]
) -> dict[int, list[str]]:
    """{index of an instruction: the buffers that nothing uses after it}."""
    last: dict[str, int] = {}
    for k, instruction in enumerate(computation.instructions):
        last |= dict.fromkeys(_merged(sources, instruction), k)
        if instruction.name in sources[instruction.name]:
            last[instruction.name] = k
    ends: dict[int, list[str]] = {}
    for buffer, k in last.items():
        ends.setdefault(k, []).append(buffer)
    return ends


def _stacked_by(
    module: Module, computation: Computation, loop: Instruction
) -> dict[str, Instruction]:
    """{operand of a loop that the loop fills, a part in each iteration: the instruction of the body
    that makes the parts}. The stacked activations of scanned layers are known by the latter.
    """
    state = computation.by_name[loop.operands[0]]
    body = module.computations[loop.called["body"][0]]
    if state.opcode != "tuple" or body.root.opcode != "tuple":
        return {}
    stacked = {}
    for operand, result in zip(state.operands, body.root.operands, strict=True):
        maker, part = body.by_name[result], 0
        if maker.opcode == "get-tuple-element":
            part, maker = int(maker.attribute("index")), body.by_name[maker.operands[0]]
        if maker.opcode == UPDATE or (
            maker.opcode == "fusion" and fusion_results(module, maker)[part][1] is not None
        ):
            stacked[operand] = maker
    return stacked


def _allocated_bytes(module: Module, instruction: Instruction) -> float:
    """Bytes of main memory of an instruction's results, without those that it updates in place."""
    if instruction.opcode != "fusion":
        return instruction.main_bytes
    results = fusion_results(module, instruction)
    return float(sum(s.bytes for s, updated in results if updated is None and s.space == MAIN))
