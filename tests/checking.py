"""Types are checked by jaxtyping where a signature names shapes of arrays, and by beartype alone
elsewhere.

jaxtyping's import hook puts its decorator on everything of vilg. A call through it costs fifty
times one through beartype's, which checks the same types, and functions that place objects in
scenes are called a hundred thousand times; it compiles two checks where one will do."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import beartype
import jaxtyping

jaxtyped = jaxtyping.jaxtyped


def checked(made: Any, *, typechecker: Callable) -> Any:
    """The function or dataclass with its types checked."""
    if inspect.isclass(made):
        if dataclasses.is_dataclass(made) and "__init__" in vars(made):
            made.__init__ = checked(made.__init__, typechecker=typechecker)
        return made
    types = list(getattr(made, "__annotations__", {}).values())
    if any(
        isinstance(t, str) or "jaxtyping." in repr(t) or "ForwardRef" in repr(t) for t in types
    ):  # shapes, or a type told by its name
        return jaxtyped(made, typechecker=typechecker)
    return beartype.beartype(made)


jaxtyping.jaxtyped = lambda typechecker: functools.partial(checked, typechecker=typechecker)
