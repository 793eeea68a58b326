"""Builds a dataclass from a section of a config whose keys are the fields of the dataclass.

An unknown key, a missing key or a value of another type is a UserError that names the field. Every
part of vilg checks the values of its own fields with `require`, and `build` is the only way from a
section to an object."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, TypeVar

from vilg.types import UserError


class Dataclass(Protocol):
    """An instance of a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Entry = TypeVar("Entry")
Held = TypeVar("Held")
Part = TypeVar("Part", bound=Dataclass)

if TYPE_CHECKING:
    Section = Annotated[Held, "given as a section"]
else:

    class Section:
        """The type of a dataclass's field that a config gives as a section, and that holds an
        object after `__post_init__`.

        To a type checker Section[Schedule] is Schedule. At run time it is Any, because `__init__`
        takes the section's mapping as well.
        """

        def __class_getitem__(cls, held: object) -> object:
            return Any


def section(**fields: object) -> Any:
    """The default of a field of type Section: a section that holds these fields."""
    return dataclasses.field(default_factory=lambda: dict(fields))


def require(condition: bool, field: str, value: object, remedy: str) -> None:
    """Raises a UserError that names the field, its value and the remedy unless the condition
    holds.
    """
    if not condition:
        raise UserError(f"{field}={value!r}: {remedy}")


def suggestion(name: object, known: Iterable[str], show: Callable[[str], str] = str) -> str:
    """The words "did you mean ...? " with the known name nearest to `name`, written by `show`.

    The words are "" where no known name is near."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean {show(close[0])}? " if close else ""


def lookup(table: Mapping[str, Entry], name: object, field: str) -> Entry:
    """The entry of a table that a field names.

    Errors: UserError with the known names where the table has no such entry."""
    if not isinstance(name, str) or name not in table:
        raise UserError(
            f"{field}={name!r}: {suggestion(name, table, repr)}known names are"
            f" {', '.join(map(repr, table))}"
        )
    return table[name]


def build(cls: type[Part], section: Mapping[str, object], path: str, **computed: object) -> Part:
    """An instance of the dataclass `cls` from the section at `path`, whose key "name" is skipped.

    `computed` holds values of the fields that no config contains, such as the codec's vocabulary.

    Errors: UserError for an unknown key, a missing field, a value of another type, NaN, a bool
    where a number belongs, and a negative number, unless the field has metadata={"signed": True}.
    """
    require(
        isinstance(section, Mapping),
        path,
        section,
        f"must hold fields of {cls.__name__}, such as dict(...)",
    )
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init and f.name not in computed}
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
        signed = fields[key].metadata.get("signed", False)
        values[key] = as_type(value, hints[key], f"{path}.{key}", signed)
    for name, f in fields.items():
        optional = (f.default, f.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        if name not in values and not optional:
            raise UserError(f"{path}.{name} is missing: {cls.__name__} needs it")
    return cls(**values, **computed)


def build_part(kind: type | Mapping[str, type], section: Any, path: str) -> Any:
    """The object of a section inside another section, at `path`.

    `kind` is the section's dataclass, or a table of dataclasses from which the section's key "name"
    chooses. A dataclass instance in place of the section is returned unchanged.

    Errors: UserError for any other value, and the errors of `lookup` and `build`."""
    if dataclasses.is_dataclass(section):
        return section
    require(isinstance(section, Mapping), path, section, "must be a section, such as dict(...)")
    if isinstance(kind, Mapping):
        kind = lookup(kind, section.get("name"), f"{path}.name")
    return build(kind, section, path)


def option(default: Any, help: str, command_line: bool = True) -> Any:
    """A field of a sampler's options with its help. `command_line` says whether `vilg sample` takes
    it under the field's name."""
    return dataclasses.field(default=default, metadata={"help": help, "cli": command_line})


def as_type(value: Any, hint: Any, field: str, signed: bool = False) -> Any:
    """The value as the annotated type. An int becomes a float, and a list a tuple, where the
    annotation asks for it.

    Errors: UserError for a value of another type, and for a negative number unless `signed`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return as_type(value, next(a for a in args if a is not type(None)), field, signed)
    if origin is typing.Literal:
        require(value in args, field, value, f"must be one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple or hint is tuple:
        return _as_tuple(value, args, field, signed)
    if hint is bool:
        require(isinstance(value, bool), field, value, "must be True or False")
        return value
    if hint in (int, float):
        return _as_number(value, hint, field, signed)
    if hint is str:
        require(isinstance(value, str), field, value, "must be text")
        return value
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        require(isinstance(value, Mapping), field, value, "must be a mapping")
        return dict(value)
    return value


def _as_tuple(value: Any, items: tuple[Any, ...], field: str, signed: bool) -> tuple[Any, ...]:
    """A list as a tuple[items]: (type, ...) for any length, () for items of any type."""
    require(isinstance(value, list | tuple), field, value, "must be a list")
    if not items:
        return tuple(value)
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(value)
    require(len(value) == len(items), field, value, f"must have {len(items)} items")
    return tuple(
        as_type(item, kind, f"{field}[{i}]", signed)
        for i, (item, kind) in enumerate(zip(value, items, strict=True))
    )


def _as_number(value: Any, kind: type, field: str, signed: bool) -> int | float:
    """A finite number, as int or float."""
    wanted = "a whole number" if kind is int else "a number"
    allowed = int if kind is int else int | float
    numeric = isinstance(value, allowed) and not isinstance(value, bool)
    require(numeric, field, value, f"must be {wanted}, not {type(value).__name__}")
    require(math.isfinite(value), field, value, f"must be finite; give {wanted}")
    require(signed or value >= 0, field, value, "must not be negative")
    return kind(value)
