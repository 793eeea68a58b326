"""Which part of a training step an instruction belongs to, as far as JAX's names say."""

from vilg.planning.hlo import Computation, Instruction, Module

PHASES: tuple[str, ...] = ("forward", "backward", "optimizer", "other")


def phase_of(module: Module, instruction: Instruction) -> str:
    """Forward, backward (recomputation too), optimizer, or other: from JAX's path; of a fusion
    without one, from what is in it.
    """
    names = (
        [instruction.op_name]
        if instruction.op_name
        else [inner.op_name for _, inner in module.fused(instruction) if inner.op_name]
    )
    votes = [
        (
            "optimizer"
            if "/optimizer/" in n
            else "backward"
            if "transpose(" in n
            else "forward"
            if "jvp(" in n
            else "other"
        )
        for n in names
    ]
    return max(PHASES, key=votes.count) if votes else "other"


def phase_near(
    module: Module, computation: Computation, instruction: Instruction, reach: int = 6
) -> str:
    """Of an instruction whose own name says nothing (a collective of a program for several slices):
    the phase of the nearest producer, else of the nearest user, that has one."""
    directions = (
        lambda i: [computation.by_name[n] for n in i.operands if n in computation.by_name],
        lambda i: computation.users.get(i.name, ()),
    )
    for neighbours in directions:
        front = [instruction]
        for _ in range(reach):
            front = list(dict.fromkeys(near for one in front for near in neighbours(one)))
            for one in front:
                if (phase := phase_of(module, one)) != "other":
                    return phase
    return "other"
