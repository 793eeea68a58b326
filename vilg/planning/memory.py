"""Main memory of a compiled program: bytes that instructions read and write, and what is alive when
it is fullest.

Separate from costs.py, which counts work: here fusions are opened, because one that slices an
array, or updates a part of it in place, neither reads nor writes nor holds the whole."""

import dataclasses
from collections.abc import Sequence

from vilg.planning.hlo import Computation, Instruction, Module, Shape, kind_of
from vilg.planning.phases import phase_of

FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast while conditional call after-all"
    " partition-id replica-id opt-barrier async-start async-update async-done call-start call-done"
    " copy-done all-reduce-done all-gather-done collective-permute-done send send-done recv"
    " recv-done".split()
)
FREE_CALLS = frozenset(
    "AllocateBuffer ConcatBitcast AssumeGatherIndicesInBound".split()
)  # of XLA:TPU: no work, or a view
ALIASES = frozenset(
    "tuple get-tuple-element bitcast while conditional optimization-barrier opt-barrier copy-done"
    " async-done call-done".split()
)
HOST = 5  # XLA's memory space
SLICES, SAME, UPDATE = (
    ("dynamic-slice", "slice", "gather"),
    ("bitcast", "reshape", "copy"),
    "dynamic-update-slice",
)


def _main(shapes: Sequence[Shape]) -> float:
    return float(sum(shape.bytes for shape in shapes if shape.space == 0))


def _inner(module: Module, fusion: Instruction) -> Computation:
    return module.computations[fusion.called["calls"][0]]


def _made(module: Module, fusion: Instruction) -> list[tuple[Shape, float | None]]:
    """What a fusion gives; of what it updates in place, the bytes of the update."""
    inner = _inner(module, fusion)
    root = inner.by_name[inner.root]
    parts = [inner.by_name[name] for name in root.operands] if root.opcode == "tuple" else [root]
    if len(parts) != len(fusion.shapes):
        return [(shape, None) for shape in fusion.shapes]
    return [
        (shape, _update(module, inner, part))
        for shape, part in zip(fusion.shapes, parts, strict=True)
    ]


def _update(module: Module, computation: Computation, made: Instruction) -> float | None:
    """Bytes of the update, if that is what the instruction is, views seen through."""
    if made.opcode in SAME and made.operands[0] in computation.by_name:
        return _update(module, computation, computation.by_name[made.operands[0]])
    if made.opcode == "fusion" and len(made.shapes) == 1:
        inner = _inner(module, made)
        return _update(module, inner, inner.by_name[inner.root])
    return computation.by_name[made.operands[1]].bytes if made.opcode == UPDATE else None


# --- traffic --------------------------------------------------------------------------------------


def moved(module: Module, computation: Computation, instruction: Instruction) -> float:
    """Bytes between main memory and the core: operands read and results written that live in main
    memory, slices counted as what is sliced.
    """
    if (
        instruction.opcode in FREE
        or kind_of(instruction)
        or instruction.attribute("custom_call_target").strip('"') in FREE_CALLS
    ):
        return 0.0
    if instruction.opcode in SLICES:
        return 2 * _main(instruction.shapes)
    if instruction.opcode == UPDATE:
        return 2 * _main(computation.by_name[instruction.operands[1]].shapes)
    operands = [
        computation.by_name[name].shapes
        for name in instruction.operands
        if name in computation.by_name
    ]
    if instruction.opcode != "fusion":
        return sum(map(_main, operands), 0.0) + _main(instruction.shapes)
    inner = _inner(module, instruction)
    parameters = {int(i.literal): i.name for i in inner.instructions if i.opcode == "parameter"}
    read = sum(
        min(_main(shapes), _touched(module, inner, parameters[k]))
        for k, shapes in enumerate(operands)
        if k in parameters
    )
    written = sum(
        _main((shape,)) if update is None else min(_main((shape,)), update)
        for shape, update in _made(module, instruction)
    )
    return read + written


def visiting(instruction: Instruction) -> float:
    """Bytes that an instruction carries between the host's memory and the device's."""
    return (
        instruction.shapes[0].bytes
        if instruction.opcode == "copy-start" and any(s.space == HOST for s in instruction.shapes)
        else 0.0
    )


def _touched(module: Module, computation: Computation, name: str) -> float:
    """Bytes that a fused computation reads of one of its arrays: slices where all that it does is
    to slice, none of what it overwrites in place.
    """
    whole, total = computation.by_name[name].bytes, 0.0
    for user in computation.instructions:
        for place in (k for k, operand in enumerate(user.operands) if operand == name):
            if user.opcode in SLICES and place == 0:
                total += user.bytes
            elif user.opcode in SAME:
                total += _touched(module, computation, user.name)
            elif user.opcode == "fusion":
                inner = _inner(module, user)
                total += _touched(
                    module,
                    inner,
                    next(
                        i.name
                        for i in inner.instructions
                        if i.opcode == "parameter" and int(i.literal) == place
                    ),
                )
            elif user.opcode == "tuple" or (user.opcode == UPDATE and place == 0):
                continue
            else:
                return whole
    return min(total, whole)


# --- what is alive at once ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Buffer:
    """An array that is alive when memory is fullest: what makes it, and in which phase."""

    bytes: float
    shape: str
    name: str
    phase: str


def fullest(module: Module) -> list[Buffer]:
    """The arrays in main memory, made by the program itself, that are alive when the most of it is
    in use; largest first.

    The schedule is gone through once, into the bodies of loops. An array that is updated in place
    counts once. Good for names and proportions; totals are the compiler's own."""
    return sorted(_fullest(module, module.entry), key=lambda b: -b.bytes)


def _fullest(module: Module, name: str) -> list[Buffer]:
    """Of one computation; what it is given is its caller's."""
    computation = module.computations[name]
    asked = {i.name: _asked(module, i) for i in computation.instructions}
    owner: dict[str, tuple[str, ...]] = {}
    last: dict[str, int] = {}
    for k, instruction in enumerate(computation.instructions):
        sources = tuple(
            dict.fromkeys(o for operand in instruction.operands for o in owner.get(operand, ()))
        )
        for source in sources:
            last[source] = k
        if instruction.opcode in ("parameter", "constant"):
            owner[instruction.name] = ()
        elif instruction.opcode in ALIASES or instruction.opcode == UPDATE:
            owner[instruction.name] = sources
        else:
            in_place = asked[instruction.name] < _main(instruction.shapes)
            owner[instruction.name] = (instruction.name, *(sources if in_place else ()))
            last[instruction.name] = k
    ends: dict[int, list[str]] = {}
    for one, k in last.items():
        ends.setdefault(k, []).append(one)
    fillers: dict[str, Instruction] = {}
    alive: dict[str, float] = {}
    now, most = 0.0, 0.0
    there: dict[str, float] = {}
    inside: list[Buffer] = []
    for k, instruction in enumerate(computation.instructions):
        size = asked[instruction.name] if instruction.name in owner[instruction.name] else 0.0
        if size:
            alive[instruction.name] = size
            now += size
        body: list[Buffer] = []
        if instruction.opcode == "while":
            body = _fullest(module, instruction.called["body"][0])
            fillers |= {
                one: by
                for operand, by in _filled(module, computation, instruction).items()
                for one in owner[operand]
            }
        if now + sum(b.bytes for b in body) > most:
            most, there, inside = now + sum(b.bytes for b in body), dict(alive), body
        for one in ends.get(k, ()):
            now -= alive.pop(one, 0.0)
    found = list(inside)
    for one, size in there.items():
        maker = computation.by_name[one]
        shape = ", ".join(
            f"{s.dtype}[{','.join(map(str, s.dims))}]" for s in maker.shapes if s.space == 0
        )
        named = fillers.get(one, maker)
        found.append(Buffer(size, shape, named.op_name or one, phase_of(module, named)))
    return found


def _filled(module: Module, computation: Computation, loop: Instruction) -> dict[str, Instruction]:
    """What a loop is given to fill, a part in each of its rounds, and what makes those parts: as an
    array that is stacked is known.
    """
    given = computation.by_name[loop.operands[0]]
    body = module.computations[loop.called["body"][0]]
    root = body.by_name[body.root]
    if given.opcode != "tuple" or root.opcode != "tuple":
        return {}
    found = {}
    for operand, result in zip(given.operands, root.operands, strict=True):
        maker, part = body.by_name[result], 0
        if maker.opcode == "get-tuple-element":
            part, maker = int(maker.attribute("index")), body.by_name[maker.operands[0]]
        if maker.opcode == UPDATE or (
            maker.opcode == "fusion" and _made(module, maker)[part][1] is not None
        ):
            found[operand] = maker
    return found


def _asked(module: Module, instruction: Instruction) -> float:
    """Bytes of main memory that an instruction asks for: of its results, those that it does not
    update in place.
    """
    if instruction.opcode != "fusion":
        return _main(instruction.shapes)
    return sum(_main((shape,)) for shape, update in _made(module, instruction) if update is None)
