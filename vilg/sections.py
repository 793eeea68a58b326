"""The sections of a config: the dataclass of each section, and all fields of a config with their
values, defaults and help.

The file is separate from experiment.py, which builds the objects. This file describes the classes:
for overrides of fields that a file leaves out, and for `vilg config show`."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vilg.codecs import CODECS
from vilg.data.knowledge import Knowledge
from vilg.data.loader import Loader
from vilg.data.settings import Data, Text
from vilg.data.sources import SOURCES
from vilg.evals import EVALUATORS
from vilg.evals.base import Sampling
from vilg.experiment import MODELS, SECTIONS, evaluator_of
from vilg.experiment_file import NESTED_EXPERIMENTS
from vilg.field_help import field_help
from vilg.generators import GENERATORS
from vilg.parallel.layouts import LAYOUTS
from vilg.training.optimizer import Optimizer
from vilg.training.settings import Training
from vilg.types import Composite

REQUIRED = dataclasses.MISSING  # marks a field that has no default
# the dataclass of each section, or the table from which the section's "name" chooses it
CLASSES: dict[str, type | Mapping[str, type]] = {
    "data.train": SOURCES,
    "data.valid": SOURCES,
    "data.loader": Loader,
    "data.text": Text,
    "data.knowledge": Knowledge,
    "codec": CODECS,
    "generator": MODELS,
    "optimizer": Optimizer,
    "training": Training,
}
# fields that belong to no dataclass: (default, help)
OTHERS: dict[str, tuple[Any, str]] = {
    "seed": (REQUIRED, "seed of the initial parameters and of training's random numbers"),
    "layout.name": ("dp", f"sharding of arrays over devices: {', '.join(LAYOUTS)}, with sizes"),
    "codec.workdir": ("", 'run of the trained codec; "": it is trained first, in WORKDIR/codec'),
    "codec.floors": ({}, "metrics that the codec must reach before a generator is trained on it"),
}


@dataclasses.dataclass(frozen=True)
class ConfigField:
    """A field of a config."""

    path: str  # dotted path of the field
    value: Any  # value in the config; the default where the config leaves the field out
    default: Any  # REQUIRED for a field without a default
    left_out: bool  # whether the config leaves the field out
    help: str
    section: str  # the path of its section, which `kind` describes
    kind: type | None = None


def section_class(config: Mapping[str, Any], path: Sequence[str]) -> type | None:
    """The dataclass that describes the section at a path; None where no dataclass is known."""
    if len(path) == 2 and path[0] == "evals":
        return EVALUATORS.get(evaluator_of(path[1], (config.get("evals") or {}).get(path[1])))
    for length in (1, 2):
        kind = CLASSES.get(".".join(path[:length]))
        if kind is not None and len(path) >= length:
            section = _inside(config, path[:length])
            break
    else:
        return None
    owner = _named(kind, section)
    for key in path[length:]:
        part = _parts(owner).get(key)
        if part is None:
            return None
        assert owner is not None
        section = section.get(key) or _default(owner, key) or {}
        owner = _named(part, section)
    return owner


def section_defaults(config: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any] | None:
    """The fields of the section at a path with their defaults (REQUIRED for a field without a
    default); for an evaluator that samples, the sampler's options are among them. None where the
    dataclass is not known."""
    kind = section_class(config, path)
    if kind is None:
        return None
    defaults = {name: _default(kind, name) for name in _fields(kind)}
    if issubclass(kind, Sampling):
        generator = GENERATORS.get((config.get("generator") or {}).get("name", ""))
        options = dataclasses.fields(generator.controls_type) if generator else ()
        defaults |= {option.name: option.default for option in options}
    return defaults


def config_fields(
    config: Mapping[str, object], model: object, prefix: str = ""
) -> Iterator[ConfigField]:
    """Every field of an experiment's config (plain dicts), section by section; a field that the
    config leaves out comes with its default. The fields of nested experiments are not among them.

    `model` is the built experiment's model, which has the defaults of the sampler's options.
    `prefix` is put before every path."""
    for name in SECTIONS:
        for field in _section(config, name, model):
            path, section = prefix + field.path, prefix + field.section
            yield dataclasses.replace(field, path=path, section=section)


def _section(config: Mapping[str, Any], name: str, model: Any) -> Iterator[ConfigField]:
    """The fields of one of SECTIONS, without nested experiments."""
    section = config[name]
    if name == "data":
        for part in ("train", "valid", "loader", "text", "knowledge"):
            path = f"data.{part}"
            if part == "knowledge" and section.get(part) is None:
                words = field_help(Data)["knowledge"]
                yield ConfigField(path, None, None, part not in section, words, "data")
            else:
                yield from _fields_at(path, section.get(part), CLASSES[path], part not in section)
    elif name == "evals":
        for evaluator in section:
            yield from _evaluator(f"evals.{evaluator}", section[evaluator] or {}, model)
    elif name in CLASSES and section and "experiment" not in section:
        yield from _fields_at(name, section, CLASSES[name], False)
    for path, (default, words) in OTHERS.items():
        owner, _, field = path.partition(".")
        if owner == name and (field != "floors" or "experiment" in section):
            left_out = bool(field) and field not in section
            value = default if left_out else section[field] if field else section
            yield ConfigField(path, value, default, left_out, words, owner)


def _fields_at(
    path: str, section: Any, kind: type | Mapping[str, type], left_out: bool, name: Any = REQUIRED
) -> Iterator[ConfigField]:
    """The fields of the section at a path, and of the sections in it. `name` is the default of the
    section's key "name", which chooses its dataclass."""
    section = section or {}
    owner = _named(kind, section)
    if isinstance(kind, Mapping):
        words = f"one of {', '.join(kind)}"
        yield ConfigField(f"{path}.name", section.get("name"), name, left_out, words, path, owner)
    if owner is None:
        return
    words, parts = field_help(owner), _parts(owner)
    fields = [field for field in _fields(owner) if (path, field) not in NESTED_EXPERIMENTS]
    for field in sorted(fields, key=parts.__contains__):  # the sections inside come last
        missing, default = left_out or field not in section, _default(owner, field)
        value = section.get(field, default)
        field_path = f"{path}.{field}"
        if field in parts:
            name = default.get("name", REQUIRED) if isinstance(default, Mapping) else REQUIRED
            yield from _fields_at(field_path, value, parts[field], missing, name)
        else:
            yield ConfigField(field_path, value, default, missing, words[field], path, owner)


def _evaluator(path: str, section: Mapping[str, object], model: Any) -> Iterator[ConfigField]:
    """The fields of an evaluator's section, with the sampler's options among them."""
    name = path.partition(".")[2]
    kind = EVALUATORS[evaluator_of(name, section)]
    if "name" in section:
        words = f"one of {', '.join(EVALUATORS)}; without it the section's own name"
        yield ConfigField(f"{path}.name", section["name"], name, False, words, path, kind)
    yield from _fields_at(path, section, kind, False)
    if issubclass(kind, Sampling) and type(model) in GENERATORS.values():
        defaults = model.controls({})
        for option in dataclasses.fields(defaults):
            default = getattr(defaults, option.name)
            yield ConfigField(
                f"{path}.{option.name}",
                section.get(option.name, default),
                default,
                option.name not in section,
                option.metadata["help"],
                path,
                kind,
            )


def _fields(kind: type) -> list[str]:
    """The fields of a dataclass that a config may set. The help of every other field begins with
    "given by", and says which part of the experiment sets it."""
    words = field_help(kind)
    fields: Any = dataclasses.fields(kind)
    omitted = ("sampling",) if issubclass(kind, Sampling) else ()
    return [
        field.name
        for field in fields
        if field.init
        and field.name not in omitted
        and not words[field.name].startswith("given by ")
    ]


def _default(kind: type, name: str) -> Any:
    """The default of a dataclass's field, a tuple as a list; REQUIRED for a field without one."""
    field = kind.__dataclass_fields__[name]
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    return list(default) if isinstance(default, tuple) else default


def _named(kind: type | Mapping[str, type], section: Any) -> type | None:
    """The dataclass of a section: `kind` itself, or the entry of the table `kind` that the section
    names."""
    if not isinstance(kind, Mapping):
        return kind
    return kind.get(section.get("name", "")) if isinstance(section, Mapping) else None


def _parts(kind: type | None) -> Mapping[str, Any]:
    """The sections inside a dataclass, by field (Composite.PARTS)."""
    return kind.PARTS if kind is not None and issubclass(kind, Composite) else {}


def _inside(config: Mapping[str, object], path: Sequence[str]) -> Any:
    """The section of a config at a path; {} where the config has none."""
    section: Any = config
    for key in path:
        section = (section or {}).get(key)
    return section or {}
