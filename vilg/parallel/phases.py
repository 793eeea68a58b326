"""Which part of a training step an instruction belongs to, as far as JAX's names say."""

from vilg.parallel.hlo import Instruction, Module

PHASES: tuple[str, ...] = ("forward", "backward", "optimizer", "other")


def phase_of(module: Module, instruction: Instruction) -> str:
    """Forward, backward (recomputation too), optimizer, or other: from JAX's path; of a fusion without one, from what is in it."""
    names = [instruction.op_name] if instruction.op_name else [inner.op_name for _, inner in module.fused(instruction) if inner.op_name]
    votes = [
        "optimizer" if "/optimizer/" in n else "backward" if "transpose(" in n else "forward" if "jvp(" in n else "other" for n in names
    ]
    return max(PHASES, key=votes.count) if votes else "other"
