"""Lines with an explanation beside them, as wide as the terminal."""

import shutil
import sys
import textwrap

COLUMN = 64  # where explanations begin


def wrapped(line: str, words: str) -> str:
    """The line with the explanation beside it or, where the line is long, below. In a terminal the
    explanation is broken into lines that fit; elsewhere each line stays one, so that grep finds
    both."""
    beside = f"{line:<{COLUMN}}  {words}".rstrip()
    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or len(beside) <= width:
        return beside
    indent = " " * (COLUMN + 2 if len(line) <= COLUMN and width >= COLUMN + 40 else 6)
    start = f"{line:<{COLUMN}}  " if len(indent) > 6 else f"{line}\n{indent}"
    return (
        start
        + textwrap.fill(words, width, initial_indent=indent, subsequent_indent=indent).lstrip()
    )
