"""Bytes that the instructions of a program move: between main memory and the core, and between the
host's memory and the device's.

Fusions are opened, because one that slices an array or overwrites a part of it in place neither
reads nor writes the whole array."""

from vilg.planning.collectives import kind_of
from vilg.planning.hlo import HOST, MAIN, Computation, Instruction, Module
from vilg.planning.in_place import UPDATE, VIEWS, fusion_results

NO_TRAFFIC = frozenset(
    "parameter constant tuple get-tuple-element bitcast while conditional call after-all"
    " partition-id replica-id opt-barrier async-start async-update async-done call-start call-done"
    " copy-done all-reduce-done all-gather-done collective-permute-done send send-done recv"
    " recv-done".split()
)
# Custom calls of XLA:TPU that do nothing, or make a view.
NO_TRAFFIC_CALLS = frozenset("AllocateBuffer ConcatBitcast AssumeGatherIndicesInBound".split())
SLICES = ("dynamic-slice", "slice", "gather")


def traffic_of(module: Module, computation: Computation, instruction: Instruction) -> float:
    """Bytes of main memory that an instruction reads and writes; of a slice only the part."""
    free = instruction.opcode in NO_TRAFFIC or kind_of(instruction)
    if free or instruction.custom_call_target in NO_TRAFFIC_CALLS:
        return 0.0
    if instruction.opcode in SLICES:
        return 2 * instruction.main_bytes
    if instruction.opcode == UPDATE:
        return 2 * computation.by_name[instruction.operands[1]].main_bytes
    operands = computation.operand_instructions(instruction)
    if instruction.opcode != "fusion":
        return sum((o.main_bytes for o in operands), 0.0) + instruction.main_bytes
    inner = module.fusion_body(instruction)
    parameters = {int(i.inside): i.name for i in inner.instructions if i.opcode == "parameter"}
    read = sum(
        min(operand.main_bytes, _read_bytes(module, inner, parameters[k]))
        for k, operand in enumerate(operands)
        if k in parameters
    )
    written = 0.0
    for shape, updated in fusion_results(module, instruction):
        size = shape.bytes if shape.space == MAIN else 0.0
        written += size if updated is None else min(size, updated)
    return read + written


def host_bytes(instruction: Instruction) -> float:
    """Bytes that an instruction moves between the host's memory and the device's."""
    visits = instruction.opcode == "copy-start" and any(s.space == HOST for s in instruction.shapes)
    return instruction.shapes[0].bytes if visits else 0.0


def _read_bytes(module: Module, computation: Computation, name: str) -> float:
    """Bytes of one of its arrays that a fused computation reads: the slices, if all that it does
    with the array is slicing; nothing of what it overwrites in place.
    """
    size, total = computation.by_name[name].bytes, 0.0
    for user in computation.instructions:
        for place in (k for k, operand in enumerate(user.operands) if operand == name):
            if user.opcode in SLICES and place == 0:
                total += user.bytes
            elif user.opcode in VIEWS:
                total += _read_bytes(module, computation, user.name)
            elif user.opcode == "fusion":
                inner = module.fusion_body(user)
                total += _read_bytes(module, inner, _parameter(inner, place))
            elif not (user.opcode == "tuple" or (user.opcode == UPDATE and place == 0)):
                return size
    return min(total, size)


def _parameter(computation: Computation, place: int) -> str:
    """The name of the parameter with this number."""
    return next(
        i.name
        for i in computation.instructions
        if i.opcode == "parameter" and int(i.inside) == place
    )
