"""The part of a training step to which an instruction belongs, as far as JAX's names tell."""

from collections.abc import Callable, Iterable

from vilg.planning.hlo import Computation, Instruction, Module

PHASES: tuple[str, ...] = ("forward", "backward", "optimizer", "other")


def phase_of(module: Module, instruction: Instruction) -> str:
    """The phase by JAX's path of the operation; recomputation is backward. For a fusion without a
    path, the phase of most instructions inside it.
    """
    names = [instruction.op_name]
    if not instruction.op_name:
        names = [inner.op_name for _, inner in module.fused(instruction) if inner.op_name]
    votes = [_phase(name) for name in names]
    return max(PHASES, key=votes.count) if votes else "other"


def _phase(op_name: str) -> str:
    if "/optimizer/" in op_name:
        return "optimizer"
    if "transpose(" in op_name:
        return "backward"
    return "forward" if "jvp(" in op_name else "other"


def phase_near(
    module: Module, computation: Computation, instruction: Instruction, reach: int = 6
) -> str:
    """The phase of the nearest producer that has one, else of the nearest user, within `reach`
    steps: for an instruction whose own name tells nothing, such as a collective between slices.
    """
    directions: tuple[Callable[[Instruction], Iterable[Instruction]], ...] = (
        computation.operand_instructions,
        lambda i: computation.users.get(i.name, ()),
    )
    for neighbours in directions:
        front = [instruction]
        for _ in range(reach):
            front = list(dict.fromkeys(near for i in front for near in neighbours(i)))
            for near in front:
                if (phase := phase_of(module, near)) != "other":
                    return phase
    return "other"
