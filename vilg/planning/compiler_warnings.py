"""What XLA says on standard error while it compiles, as data: its C++ writes there, past Python.

Involuntary full rematerialization (an array that is replicated because no cheaper way from one
sharding to another is known) is the one that matters for a layout; a run of the same sentence about
many operations becomes one line with their number and the first operation's name."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence

LOGGED = re.compile(r"^[IWE]\d{4} [\d:.]+ +\d+ (?P<file>[\w./]+):\d+\] (?P<text>.*)", re.S)
NOISE = (
    "cpu_aot_loader",
    "preferred_element_type",
    "donated buffers",
)  # not about the program's layout
REMATERIALIZED = re.compile(
    r"Involuntary full rematerialization\..*? for HLO operation:? ?(?P<operation>%[\w.-]+)", re.S
)
NAMED = re.compile(r'op_name="(?P<name>[^"]*)"')


@contextlib.contextmanager
def compiler_warnings() -> Iterator[list[str]]:
    """A list that holds, after the block, what the compiler warned of in it. Errors of the block go
    on their way, with what was written before them passed on."""
    found: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield found
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            kept.seek(0)
            lines = kept.read().decode(errors="replace").splitlines()
            found += summary(lines)
            other = "".join(f"{line}\n" for line in lines if not LOGGED.match(line))
            sys.stderr.write(other)


def summary(lines: Sequence[str]) -> list[str]:
    """One sentence a kind of warning."""
    rematerialized: list[str] = []
    others: dict[str, int] = {}
    for line in lines:
        logged = LOGGED.match(line)
        if not logged or not line.startswith(("W", "E")) or any(word in line for word in NOISE):
            continue
        if about := REMATERIALIZED.search(logged["text"]):
            name = NAMED.search(logged["text"])
            rematerialized.append(name["name"] if name else about["operation"])
        else:
            text = logged["text"].strip()
            others[text] = others.get(text, 0) + 1
    said = [text if count == 1 else f"{text} ({count} times)" for text, count in others.items()]
    if rematerialized:
        unlike = list(dict.fromkeys(rematerialized))
        said.insert(
            0,
            f"involuntary full rematerialization of {len(rematerialized)} arrays (replicated to"
            f" change their sharding), first {unlike[0]}",
        )
    return said
