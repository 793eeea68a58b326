"""Overrides of fields that an experiment file leaves out: --config.training.keep_last=3 where the
file names no keep_last.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vilg.codecs import CODECS
from vilg.config import suggestion
from vilg.data.knowledge import Knowledge
from vilg.data.loader import Loader
from vilg.evals import EVALUATORS
from vilg.experiment import LAYOUT_FIELD, MODELS, Text, Training, evaluator_of
from vilg.experiment_file import INNER
from vilg.training.optimizer import Optimizer
from vilg.types import UserError


def admit(config: Any, path: Sequence[str]) -> None:
    """Puts the field's default at the path (a list of keys) where the experiment leaves the field
    out, so that it can be overridden.
    """
    for section, field in INNER:
        if (
            tuple(path[:2]) == (section, field)
            and len(path) > 2
            and (config.get(section) or {}).get(field)
        ):
            return admit(config[section][field], path[2:])
    *section, field = path
    owner: Any = config
    for i, key in enumerate(section):
        if isinstance(owner, ConfigDict) and key not in owner:
            near = suggestion(key, owner, lambda name, i=i: ".".join([*section[:i], name]))
            raise UserError(
                f"config.{'.'.join(path)}: there is no section {'.'.join(section[: i + 1])};"
                f" {near}here are {', '.join(owner)}"
            )
        owner = owner.get(key) if isinstance(owner, ConfigDict) else None
    if section == ["layout"] and field != "name":
        raise UserError(LAYOUT_FIELD.format(field))
    if not isinstance(owner, ConfigDict) or field in owner:
        return None
    kind = _section_class(config, tuple(section))
    if kind is None:
        return None
    defaults = {f.name: f.default for f in dataclasses.fields(kind) if f.init}
    if field not in defaults:
        near = suggestion(field, defaults)
        raise UserError(
            f"config.{'.'.join(path)}: unknown field of {kind.__name__}; {near}it has"
            f" {', '.join(defaults)}"
        )
    if defaults[field] not in (dataclasses.MISSING, None):
        with owner.unlocked():
            owner[field] = defaults[field]
    return None


def _section_class(config: Any, section: tuple[str, ...]) -> Any:
    """The dataclass whose fields a section holds, or None."""
    fixed = {
        ("training",): Training,
        ("optimizer",): Optimizer,
        ("data", "loader"): Loader,
        ("data", "text"): Text,
        ("data", "knowledge"): Knowledge,
    }
    if section in fixed:
        return fixed[section]
    if section[:1] == ("evals",) and len(section) == 2:
        return EVALUATORS.get(evaluator_of(section[1], (config.get("evals") or {}).get(section[1])))
    tables: dict[str, Mapping[str, Any]] = {"generator": MODELS, "codec": CODECS}
    if not 1 <= len(section) <= 2 or section[0] not in tables:
        return None
    kind = tables[section[0]].get((config.get(section[0]) or {}).get("name", ""))
    if len(section) == 1:
        return kind
    part = getattr(kind, "PARTS", {}).get(section[1])
    return (
        part.get(config[section[0]][section[1]].get("name", ""))
        if isinstance(part, Mapping)
        else part
    )
