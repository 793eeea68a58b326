"""Measures of source text, by Python's own parser, for tests/test_architecture.py."""

import ast
import builtins
import symtable
from collections.abc import Iterator, Mapping
from pathlib import Path

PROBES = ("getattr", "hasattr", "setattr", "delattr")
OPTIONAL_PARTS = ("generator", "codec", "model", "ranker")
OF_EVERY_MODULE = {"__file__", "__name__", "__doc__", "__path__"}


def sources(*directories: str) -> dict[str, str]:
    """The text of every Python file below the directories, by path."""
    return {
        path.as_posix(): path.read_text(encoding="utf-8")
        for directory in directories
        for path in sorted(Path(directory).rglob("*.py"))
    }


def function_lines(text: str) -> dict[str, int]:
    """Lines of each function, from `def` to its last line, by "name, line of its def"."""
    return {
        f"{node.name}, line {node.lineno}": (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def string_probes(text: str) -> list[str]:
    """Calls that ask an object for an attribute by a string: hasattr; getattr with a default; and
    getattr, setattr or delattr with the attribute's name as a constant.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id in PROBES and len(node.args) > 1:
            default = node.func.id == "getattr" and len(node.args) == 3
            constant = isinstance(node.args[1], ast.Constant)
            if node.func.id == "hasattr" or default or constant:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def presence_tests(text: str) -> list[str]:
    """Comparisons `x is None` or `x is not None` where x is a variable or an attribute with a name
    of OPTIONAL_PARTS.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot):
            left, right = node.left, node.comparators[0]
            name = left.attr if isinstance(left, ast.Attribute) else ast.unparse(left)
            if name in OPTIONAL_PARTS and isinstance(right, ast.Constant) and right.value is None:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def annotations(text: str) -> Iterator[ast.expr]:
    """The annotation of each parameter, return value, annotated variable and field."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns


def is_any(node: ast.AST) -> bool:
    """Whether an annotation is `Any`, or `typing.Any`, itself."""
    return ast.unparse(node) in ("Any", "typing.Any") if isinstance(node, ast.expr) else False


def undefined_names(text: str, file: str) -> set[str]:
    """Names that code reads and nothing defines: neither the function around it, nor its module,
    nor Python. Annotations count, except what is written in strings.
    """
    module = symtable.symtable(text, file, "exec")
    own = {
        s.get_name()
        for s in module.get_symbols()
        if s.is_assigned() or s.is_imported() or s.is_namespace()
    }
    known = own | set(dir(builtins)) | OF_EVERY_MODULE
    tables, read = [module], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        read |= {
            s.get_name()
            for s in table.get_symbols()
            if s.is_referenced() and (s.is_global() or table is module)
        }
    return read - known


def imports(files: Mapping[str, str]) -> dict[str, set[str]]:
    """By module, the modules among the files that it imports, at its top or inside a function."""
    by_name = {module_name(file): file for file in files}
    graph = {}
    for name, file in by_name.items():
        found = set()
        for node in ast.walk(ast.parse(files[file])):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= (inside & set(by_name)) or {node.module}
        graph[name] = found & set(by_name)
    return graph


def module_name(file: str) -> str:
    """The dotted name of a module's file."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
