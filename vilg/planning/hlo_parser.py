"""The text of XLA's optimized HLO, read into hlo.Module.

Two traps: a computation ends at a line that is exactly "}" (or "}" and the thread on which it
runs), because the configuration of a kernel inside it may hold lines that begin with "}"; and that
configuration goes over several lines."""

import re
from collections.abc import Sequence

from vilg.planning.hlo import Computation, Instruction, Module, Shape

_ARRAY = re.compile(r"\b([a-z]+[0-9]*[a-z0-9]*)\[([0-9,<=]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) .*\{\s*$")
_END = re.compile(r'\}(?:, execution_thread="(\w+)")?')


def parse(text: str) -> Module:
    """The module of `compiled.as_text()`, or of an HLO dump.

    Errors: ValueError for a text that has no ENTRY computation."""
    computations: dict[str, Computation] = {}
    entry = name = ""
    lines: list[str] = []
    for line in text.splitlines():
        if not name:
            header = _HEADER.match(line) if line[:1] in ("%", "E") or " -> " in line else None
            if header and not line.startswith(" "):
                name, lines = header[2], []
                entry = name if header[1] else entry
        elif end := _END.fullmatch(line):
            computations[name] = _computation(name, lines, end[1] or "")
            name = ""
        elif line.startswith(("  %", "  ROOT %")):
            lines.append(line)
        elif lines:
            lines[-1] += line  # the configuration of a kernel goes on
    if not entry:
        raise ValueError("the text holds no ENTRY computation: it is no HLO module")
    return Module(computations, entry)


def _computation(name: str, lines: Sequence[str], thread: str) -> Computation:
    instructions = [_instruction(line) for line in lines]
    roots = [
        i.name for i, line in zip(instructions, lines, strict=True) if line.startswith("  ROOT")
    ]
    last = instructions[-1].name if instructions else ""
    return Computation(
        name, instructions, roots[-1] if roots else last, "" if thread == "main" else thread
    )


def _instruction(line: str) -> Instruction:
    left, _, right = line.strip().removeprefix("ROOT ").partition(" = ")
    end = _closing(right, 0) + 1 if right.startswith("(") else right.index(" ")
    result, call = right[:end], right[end:].lstrip()
    opening = call.index("(")
    closing = _closing(call, opening)
    inside = call[opening + 1 : closing]
    return Instruction(
        name=left.lstrip("%"),
        opcode=call[:opening],
        shapes=_shapes(result),
        operands=tuple(_NAME.findall(inside)),
        inside=inside,
        rest=call[closing + 1 :],
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
    shapes = []
    for dtype, dims, layout in _ARRAY.findall(text):
        space = re.search(r"S\((\d+)\)", layout or "")
        sizes = tuple(int(d.lstrip("<=")) for d in dims.split(",") if d)
        shapes.append(Shape(dtype, sizes, int(space[1]) if space else 0))
    return tuple(shapes)
