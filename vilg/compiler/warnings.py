"""The warnings that XLA writes on standard error while it compiles, as a list.

XLA is C++ and writes to file descriptor 2 itself, so that redirecting sys.stderr does not catch its
lines. The warning that matters for a layout is "involuntary full rematerialization": an array is
replicated because XLA knows no cheaper way from one sharding to another. Warnings of the same words
about many operations become one line with their number and the first operation's name."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence

LOGGED = re.compile(r"^[IWE]\d{4} [\d:.]+ +\d+ (?P<file>[\w./]+):\d+\] (?P<text>.*)", re.S)
# Words of warnings that say nothing about a program's layout.
NOISE = ("cpu_aot_loader", "preferred_element_type", "donated buffers")
REMATERIALIZED = re.compile(
    r"Involuntary full rematerialization\..*? for HLO operation:? ?(?P<operation>%[\w.-]+)", re.S
)
NAMED = re.compile(r'op_name="(?P<name>[^"]*)"')


@contextlib.contextmanager
def compiler_warnings() -> Iterator[list[str]]:
    """A list that holds the compiler's warnings once the block has ended. What others wrote on
    standard error in the meantime is passed on, whether the block raises or not.
    """
    warnings: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        standard_error = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield warnings
        finally:
            sys.stderr.flush()
            os.dup2(standard_error, 2)
            os.close(standard_error)
            written.seek(0)
            lines = written.read().decode(errors="replace").splitlines()
            warnings += summary(lines)
            sys.stderr.write("".join(f"{line}\n" for line in lines if not LOGGED.match(line)))


def summary(lines: Sequence[str]) -> list[str]:
    """One sentence for each kind of warning in lines of XLA's log."""
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
        said.insert(
            0,
            f"involuntary full rematerialization of {len(rematerialized)} arrays (replicated to"
            f" change their sharding), first {rematerialized[0]}",
        )
    return said
