"""Overrides: values of a config's fields, set by the fields' dotted paths.

`override` changes a config as plain dicts: the cells of an ablation, the options that `vilg verify`
varies, the remedies that `vilg plan` tries. `admit` serves the command line, where ml_collections
sets the value: ml_collections accepts only fields that the experiment file names, so `admit` first
adds a field that the file leaves out, with its default (--config.training.keep_last=3 where the
file names no keep_last)."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vilg.config import require, suggestion
from vilg.experiment import LAYOUT_FIELD
from vilg.experiment_file import NESTED_EXPERIMENTS, to_dict
from vilg.sections import section_class, section_defaults
from vilg.types import UserError

UNKNOWN = object()  # stands for the default of a field whose section has no known dataclass


def override(
    config: Mapping[str, object], changes: Mapping[str, object], *, create: bool = False
) -> dict[str, Any]:
    """A copy of a config (plain dicts) with `changes`, a value for each dotted path.

    A key "*" of a path stands for every section, at any depth, from which the rest of the path
    leads to a field: {"generator.*.remat": "full"} sets `remat` of the generator itself and of each
    of its parts that has the field. A path without "*" may also name a field that the config leaves
    out, if the dataclass of the field's section has it. With `create`, missing sections and fields
    are added without that check, as for the cells of an ablation; build_experiment checks them
    afterwards.

    Errors: UserError for a path that leads to no field, and for a path that passes through a value.
    """
    changed = copy.deepcopy(dict(config))
    for path, value in changes.items():
        keys = path.split(".")
        require(keys[-1] != "*", path, value, "must end with the name of a field")
        owners = _owners(changed, keys) or [_missing_owner(changed, keys, value, create)]
        for owner in owners:
            owner[keys[-1]] = copy.deepcopy(value)
    return changed


def values(config: Mapping[str, object], path: str) -> list[Any]:
    """The values that a config (plain dicts) holds at a dotted path, which may contain "*" as in
    `override`; [] where the config holds none."""
    keys = path.split(".")
    return [owner[keys[-1]] for owner in _owners(config, keys)]


def _owners(section: object, keys: Sequence[str]) -> list[dict[str, object]]:
    """The sections that hold the last of the keys and are reached by the keys before it."""
    if not isinstance(section, dict):
        return []
    key, *rest = keys
    if key == "*":
        inside = [owner for part in section.values() for owner in _owners(part, keys)]
        return _owners(section, rest) + inside
    if not rest:
        return [section] if key in section else []
    return _owners(section.get(key), rest)


def _missing_owner(
    config: dict[str, Any], keys: Sequence[str], value: Any, create: bool
) -> dict[str, Any]:
    """The section of a field that the config does not hold. With `create` the section is added
    where it is missing; otherwise its dataclass must have the field."""
    path = ".".join(keys)
    require("*" not in keys, path, value, "no section has this field; correct the path")
    owner = config
    for i, key in enumerate(keys[:-1]):
        section = ".".join(keys[: i + 1])
        if create:
            owner.setdefault(key, {})
        require(key in owner, path, value, f"there is no section {section}; correct the path")
        owner = owner[key]
        require(isinstance(owner, dict), path, value, f"{section} is a value, not a section")
    if not create:
        known = _field_default(config, keys) is not UNKNOWN
        require(known, path, value, f"the section holds {', '.join(owner)}; name one of them")
    return owner


def admit(config: object, path: Sequence[str]) -> None:
    """Puts the field's default at the path (a list of keys) where the experiment leaves the field
    out, so that ml_collections accepts an override."""
    config, path = _innermost(config, path)
    *section, field = path
    owner: Any = config
    for i, key in enumerate(section):
        if isinstance(owner, ConfigDict) and key not in owner:
            near = suggestion(key, owner, lambda name, i=i: ".".join([*section[:i], name]))
            raise UserError(
                f"config.{'.'.join(path)}: there is no section {'.'.join(section[: i + 1])};"
                f" {near}the sections and fields there are {', '.join(owner)}"
            )
        owner = owner.get(key) if isinstance(owner, ConfigDict) else None
    if section == ["layout"] and field != "name":
        raise UserError(LAYOUT_FIELD.format(field))
    if not isinstance(owner, ConfigDict) or field in owner:
        return
    default = _field_default(config, path)
    if default not in (UNKNOWN, dataclasses.MISSING, None):
        with owner.unlocked():
            owner[field] = default


def _innermost(config: Any, path: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """The innermost experiment that the path leads into (the codec's experiment, or
    training.first), and the rest of the path; the config and the path themselves where the path
    leads into no nested experiment."""
    for section, field in NESTED_EXPERIMENTS:
        if tuple(path[:2]) != (section, field) or len(path) <= 2:
            continue
        nested = (config.get(section) or {}).get(field)
        if nested:
            return _innermost(nested, path[2:])
    return config, path


def _field_default(config: Any, path: Sequence[str]) -> Any:
    """The default of a field that the config leaves out (dataclasses.MISSING for a required field),
    from the dataclass of its section; UNKNOWN where that dataclass is not known.

    Errors: UserError where the dataclass has no such field."""
    config, path = _innermost(config, path)
    *section, field = path
    config = to_dict(config)
    kind, defaults = section_class(config, section), section_defaults(config, section)
    if kind is None or defaults is None:
        return UNKNOWN
    if field not in defaults:
        near = suggestion(field, defaults)
        raise UserError(
            f"config.{'.'.join(path)}: unknown field of {kind.__name__}; {near}it has"
            f" {', '.join(defaults)}"
        )
    return defaults[field]
