"""From a config section to a dataclass: the fields are the config, so an unknown key is an error
that names the class.

Separate because every part of vilg validates its own fields with `require`, and `build` is the only
way in."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vilg.types import UserError


def require(condition: bool, field: str, value: Any, remedy: str) -> None:
    """Raises a UserError naming the field, the value and the remedy unless the condition holds."""
    if not condition:
        raise UserError(f"{field}={value!r}: {remedy}")


def suggestion(name: Any, known: Iterable[str], show: Callable[[str], str] = str) -> str:
    """ "did you mean ...? " with the known name nearest to this one, as `show` writes it; "" where
    none is near.
    """
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean {show(close[0])}? " if close else ""


def lookup(table: Mapping[str, Any], name: Any, field: str) -> Any:
    """The entry of a table by name; an unknown name lists the known ones."""
    if name not in table:
        raise UserError(
            f"{field}={name!r}: {suggestion(name, table, repr)}known names are"
            f" {', '.join(map(repr, table))}"
        )
    return table[name]


def build(cls: type, section: Mapping[str, Any], path: str, **given: Any) -> Any:
    """An instance of dataclass `cls` from a config section (its key "name" is skipped); `given`
    fills non-config fields.

    Errors: UserError for an unknown key, a missing field, a value of the wrong type, NaN, a bool
    for a number, a negative number (a field that may be negative says so with metadata={"signed":
    True})."""
    require(
        isinstance(section, Mapping),
        path,
        section,
        f"must hold fields of {cls.__name__}, such as dict(...)",
    )
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init and f.name not in given}
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in section.items():
        if key == "name":
            continue
        if key not in fields:
            near = suggestion(key, fields, lambda name: f"{path}.{name}")
            raise UserError(
                f"{path}.{key}={value!r}: unknown field of {cls.__name__}; {near}it has"
                f" {', '.join(fields)}"
            )
        values[key] = check(
            value, hints[key], f"{path}.{key}", signed=fields[key].metadata.get("signed", False)
        )
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{path}.{missing[0]} is missing: {cls.__name__} needs it")
    return cls(**values, **given)


def entry(table: Mapping[str, type], section: Any, path: str) -> Any:
    """The table's class named by section["name"], built from the section; what is built already
    stays.
    """
    if not hasattr(section, "items"):
        return section
    return build(lookup(table, section.get("name"), f"{path}.name"), section, path)


def build_part(kind: Any, section: Any, path: str) -> Any:
    """What an entry of a class's PARTS makes of its section: a dataclass, or one that a table
    names. What is built already stays.
    """
    if dataclasses.is_dataclass(section):
        return section
    require(hasattr(section, "items"), path, section, "must be a section, such as dict(...)")
    return entry(kind, section, path) if isinstance(kind, Mapping) else build(kind, section, path)


def option(default: Any, help: str, command_line: bool = True) -> Any:
    """A field of a sampler's options with its help; `command_line` where `vilg sample` takes it by
    its own name.
    """
    return dataclasses.field(default=default, metadata={"help": help, "cli": command_line})


def check(value: Any, hint: Any, field: str, signed: bool = False) -> Any:
    """The value as the annotated type (int -> float and list -> tuple are allowed), or a
    UserError.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return check(value, next(a for a in args if a is not type(None)), field, signed)
    if origin is typing.Literal:
        require(value in args, field, value, f"must be one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple or hint is tuple:
        require(isinstance(value, list | tuple), field, value, "must be a list")
        if not args:
            return tuple(value)
        inner = args[0] if len(args) == 2 and args[1] is Ellipsis else None
        require(
            inner is not None or len(value) == len(args),
            field,
            value,
            f"must have {len(args)} items",
        )
        return tuple(
            check(v, inner or args[i], f"{field}[{i}]", signed) for i, v in enumerate(value)
        )
    if hint is bool:
        require(isinstance(value, bool), field, value, "must be True or False")
        return value
    if hint in (int, float):
        wanted = "a whole number" if hint is int else "a number"
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if hint is int:
            numeric = numeric and isinstance(value, int)
        require(numeric, field, value, f"must be {wanted}, not {type(value).__name__}")
        require(
            not math.isnan(value) and not math.isinf(value),
            field,
            value,
            f"must be finite; give {wanted}",
        )
        require(signed or value >= 0, field, value, "must not be negative")
        return hint(value)
    if hint is str:
        require(isinstance(value, str), field, value, "must be text")
        return value
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        require(hasattr(value, "items"), field, value, "must be a mapping")
        return dict(value.items())
    return value
