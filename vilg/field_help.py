"""The help of a config's fields: what their comments in the source say.

Separate from config.py, which checks values: help is read where somebody asks for it, from the
comment that a reader of the class finds too, so that it is written once."""

import ast
import dataclasses
import functools
import inspect
import io
import textwrap
import tokenize


@functools.cache
def field_help(kind: type) -> dict[str, str]:
    """The help of each annotated field of a class by name, those of its bases included.

    Help is the comment after the field, on its line or where its definition ends, else the comment
    lines right above, else metadata={"help": ...}. A field without any has ""."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("vilg."):
            found |= _own_help(base)
    for field in dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ():
        found[field.name] = found.get(field.name) or field.metadata.get("help", "")
    return found


def _own_help(kind: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(kind))
    comments, alone = _comments(source)
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node in body.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        assert node.end_lineno is not None
        words = [comments[n] for n in range(node.lineno, node.end_lineno + 1) if n in comments]
        if not words:
            line = node.lineno - 1
            while line in alone:
                words.insert(0, alone[line])
                line -= 1
        found[node.target.id] = " ".join(words)
    return found


def _comments(source: str) -> tuple[dict[int, str], dict[int, str]]:
    """Comments by line: those that follow code, and those that have their line to themselves."""
    lines = source.splitlines()
    after, alone = {}, {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            place = after if lines[row - 1][:column].strip() else alone
            place[row] = token.string.lstrip("# ").strip()
    return after, alone
