"""Updates in place: which results of a fusion are new arrays, and which are an operand of which
only a part is overwritten.
"""

from vilg.planning.hlo import Computation, Instruction, Module, Shape

VIEWS = ("bitcast", "reshape", "copy")  # the same elements, through which an update is seen
UPDATE = "dynamic-update-slice"


def fusion_results(module: Module, fusion: Instruction) -> list[tuple[Shape, float | None]]:
    """The arrays of a fusion's result, each with the bytes of the part that the fusion overwrites
    in place; None for a new array.
    """
    inner = module.fusion_body(fusion)
    root = inner.root
    parts = [inner.by_name[name] for name in root.operands] if root.opcode == "tuple" else [root]
    if len(parts) != len(fusion.shapes):
        return [(shape, None) for shape in fusion.shapes]
    return [
        (shape, _updated_bytes(module, inner, part))
        for shape, part in zip(fusion.shapes, parts, strict=True)
    ]


def _updated_bytes(module: Module, computation: Computation, result: Instruction) -> float | None:
    """Bytes of the part that is overwritten, if the instruction behind views is an update."""
    if result.opcode in VIEWS and result.operands[0] in computation.by_name:
        return _updated_bytes(module, computation, computation.by_name[result.operands[0]])
    if result.opcode == "fusion" and len(result.shapes) == 1:
        inner = module.fusion_body(result)
        return _updated_bytes(module, inner, inner.root)
    return computation.by_name[result.operands[1]].bytes if result.opcode == UPDATE else None
