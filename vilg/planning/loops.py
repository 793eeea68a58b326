"""How often each instruction of a program runs: the text of a loop's body stands once and runs many
times.
"""

import re
from collections.abc import Iterator

from vilg.planning.hlo import Computation, Instruction, Module

CALLS = ("call", "call-start", "conditional", "async-start")
VIEWS = ("convert", "copy", "bitcast")  # through which a counter or a constant is seen


def walk(module: Module, warnings: list[str]) -> Iterator[tuple[Computation, Instruction, float]]:
    """Every instruction that is executed by itself, with its computation and how often it runs.

    Loops are multiplied out; one whose trip count is not known counts once and adds to `warnings`.
    All branches of a conditional are visited, although no run takes all of them, so that sums over
    them are upper bounds. The inside of fusions is left to Module.fused."""
    yield from _walk(module, module.entry, 1.0, warnings)


def _walk(
    module: Module, name: str, times: float, warnings: list[str]
) -> Iterator[tuple[Computation, Instruction, float]]:
    computation = module.computations[name]
    for instruction in computation.instructions:
        yield computation, instruction, times
        if instruction.opcode == "while":
            try:
                trips = trip_count(module, computation, instruction)
            except ValueError as error:
                warnings.append(f"{error}; its body is counted once")
                trips = 1
            for body in instruction.called.get("body", ()):
                yield from _walk(module, body, times * trips, warnings)
        elif instruction.opcode in CALLS:
            called = dict(instruction.called)
            if not instruction.opcode.startswith("call"):
                called.pop("to_apply", None)  # the reduction of an asynchronous collective
            for names in called.values():
                for inner in names:
                    yield from _walk(module, inner, times, warnings)


def trip_count(module: Module, computation: Computation, loop: Instruction) -> int:
    """How often the body of a while loop runs: XLA's known_trip_count, else the constant with which
    the loop's condition compares its counter, less the counter's initial value.

    Errors: ValueError where the text has neither (the end of the loop depends on data)."""
    known = re.search(r'known_trip_count[":={]*n[":]*\s*"?(\d+)', loop.rest)
    if known:
        return int(known[1])
    comparison = _comparison(module, module.computations[loop.called["condition"][0]])
    if comparison is None:
        raise ValueError(
            f"{loop.name}: no trip count is known and its condition compares with no constant"
        )
    counter, limit = comparison
    return max(0, limit - _initial_value(computation, loop, counter))


def _comparison(module: Module, condition: Computation) -> tuple[int, int] | None:
    """(index of the counter in the loop's tuple, the constant below which it has to be)."""
    inner = module.fusion_body(condition.root) if condition.root.opcode == "fusion" else condition
    compare = inner.root
    if compare.opcode != "compare" or len(compare.operands) != 2:
        return None
    index, limit = 0, None
    for name in compare.operands:
        operand = _behind_views(condition, inner, name)
        if operand is not None and operand.opcode == "constant":
            limit = int(operand.inside)
        elif operand is not None and operand.opcode == "get-tuple-element":
            index = int(operand.attribute("index") or 0)
    if limit is None:
        return None
    return index, limit + (1 if "direction=LE" in compare.rest else 0)


def _behind_views(condition: Computation, inner: Computation, name: str) -> Instruction | None:
    """The instruction behind an operand of the comparison: behind views, and behind the parameters
    of the condition's fusion, where the comparison is fused.
    """
    operand = inner.by_name.get(name)
    while operand is not None and operand.opcode in VIEWS:
        operand = inner.by_name.get(operand.operands[0])
    if operand is not None and operand.opcode == "parameter" and inner is not condition:
        outside = condition.root.operands[int(operand.inside)]
        return _behind_views(condition, condition, outside)
    return operand


def _initial_value(computation: Computation, loop: Instruction, counter: int) -> int:
    """The counter's value before the loop; 0 where the text does not show it."""
    state = computation.by_name.get(loop.operands[0]) if loop.operands else None
    if state is None or state.opcode != "tuple" or counter >= len(state.operands):
        return 0
    value = computation.by_name.get(state.operands[counter])
    while value is not None and value.opcode in VIEWS:
        value = computation.by_name.get(value.operands[0])
    if value is None or value.opcode != "constant" or not value.inside.lstrip("-").isdigit():
        return 0
    return int(value.inside)
