"""Every global name that a function reads is there: what ruff's F821 and pyright would say, were
jaxtyping's shape strings not names to them.
"""

import builtins
import dis
import importlib
import pkgutil
import types

import vilg


def unknown(module, code):
    """Names that the code, and what is defined in it, reads from the module's globals, which has
    them not.
    """
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and not (
            hasattr(module, instruction.argval) or hasattr(builtins, instruction.argval)
        ):
            yield instruction.argval
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from unknown(module, inner)


def functions(module):
    """The functions that the module defines, those of its classes too."""
    for value in vars(module).values():
        for one in (value, *(vars(value).values() if isinstance(value, type) else ())):
            one = (
                getattr(one, "fget", None)
                or getattr(one, "func", None)
                or getattr(one, "__func__", None)
                or one
            )
            while hasattr(one, "__wrapped__"):
                one = one.__wrapped__
            if isinstance(one, types.FunctionType) and one.__module__ == module.__name__:
                yield one


def loaded(name):
    """The module; None of one that needs torch where torch is not installed (tests/oracles.py)."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise


def test_no_function_reads_a_name_that_is_not_there():
    names = [
        found.name
        for found in pkgutil.walk_packages(vilg.__path__, "vilg.")
        if not found.name.endswith("__main__")
    ]
    modules = [module for name in names if (module := loaded(name))]
    missing = [
        f"{f.__module__}.{f.__qualname__}: {name}"
        for m in modules
        for f in functions(m)
        for name in unknown(m, f.__code__)
    ]
    assert not missing
    assert sum(len(list(functions(m))) for m in modules) > 1000
