"""Every field of a config has help, a default and a class that reads it."""

import dataclasses
import sys
from types import ModuleType

import pytest

from vilg import config as config_module
from vilg.experiment import SECTIONS, build_experiment
from vilg.experiment_file import load_config, load_file, to_dict
from vilg.field_help import field_help
from vilg.packaged import packaged
from vilg.run.config import all_fields
from vilg.sections import CLASSES, ConfigField, _fields, section_class, section_defaults
from vilg.types import Composite


def classes_in(kind) -> set[type]:
    """The dataclass, those of a table, and those of the sections inside them."""
    if not isinstance(kind, type):
        return {found for entry in kind.values() for found in classes_in(entry)}
    parts = kind.PARTS.values() if issubclass(kind, Composite) else ()
    return {kind, *(found for part in parts for found in classes_in(part))}


def config_classes() -> list[type]:
    """Every dataclass that a section of any config can become."""
    from vilg.evals import EVALUATORS

    tables = [*CLASSES.values(), EVALUATORS]
    found = {kind for table in tables for kind in classes_in(table)}
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


@pytest.mark.parametrize("kind", config_classes(), ids=lambda kind: kind.__name__)
def test_every_field_of_a_config_has_help(kind):
    words = field_help(kind)
    missing = [name for name in _fields(kind) if len(words[name]) < 4]
    assert not missing, f"{kind.__module__}.{kind.__name__}: comment these fields"


def test_help_is_the_comment_beside_or_above_a_field():
    assert len(config_classes()) > 40
    words = field_help(section_class({"generator": {"name": "autoregressive"}}, ["generator"]))
    assert words["grid"] == "given by the codec" and words["width"].startswith("width of")
    assert words["rotary_base"].startswith("base of rotary positions beside the learned")
    assert words["role"] == ""  # no field of a config


def test_the_dataclasses_are_those_that_build_is_called_with(monkeypatch):
    """Of every packaged experiment: for each section that `build` makes an object of, the class
    that `section_class` names."""
    build, called = config_module.build, []

    def recorded(cls, section, path, **given):
        called.append((path, cls))
        return build(cls, section, path, **given)

    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and vars(module).get("build") is build:
            monkeypatch.setattr(module, "build", recorded)
    for name in packaged():
        for size in load_file(name).SIZES:
            config = to_dict(load_config(f"{name}:{size}"))
            inner = config["codec"].pop("experiment", None)
            first = config["training"].pop("first", None)
            if inner is not None:
                config["codec"]["experiment"] = inner
            called.clear()
            build_experiment(config)
            own = {path: cls for path, cls in called if path != "codec" or inner is None}
            for path, cls in own.items():
                if inner is None or not path.startswith("codec."):
                    assert section_class(config, path.split(".")) is cls, (name, size, path)
            assert {"training", "optimizer", "data.train"} <= set(own)
            if first is not None:
                config["training"]["first"] = first


@pytest.mark.parametrize("name", packaged())
def test_all_fields_of_an_experiment_are_found(name):
    """Every value of the config stands in one field, and what is left out has a default."""
    config = to_dict(load_config(name))
    fields = all_fields(config)

    def check(section, prefix):
        for key, value in section.items():
            path = f"{prefix}{key}"
            if path in fields:
                assert fields[path].value == value and not fields[path].left_out, path
            else:
                assert isinstance(value, dict) or value is None, f"{path} is no field"
                check(value or {}, f"{path}.")

    check(config, "")
    assert all(field.help for field in fields.values())
    for field in fields.values():
        assert not field.left_out or field.default is not dataclasses.MISSING, field.path
    assert {path.split(".")[0] for path in fields} <= set(SECTIONS)


def test_a_field_that_is_left_out_has_its_default():
    fields = all_fields(load_config("ernie_vilg2:tiny"))
    shift = fields["generator.process.schedule.shift"]
    assert shift == ConfigField(
        "generator.process.schedule.shift",
        1.0,
        1.0,
        True,
        shift.help,
        "generator.process.schedule",
        shift.kind,
    )
    assert fields["codec.experiment.training.keep_last"].left_out
    assert not any(path.endswith(".vocabulary") for path in fields if "process" in path)


def test_the_samplers_options_are_fields_of_an_evaluators_section():
    config = to_dict(load_config("ernie_vilg:tiny"))
    config["evals"]["scenes"].pop("guidance")
    defaults = section_defaults(config, ["evals", "scenes"])
    assert defaults is not None and {"n", "top_k", "guidance"} <= set(defaults)
    guidance = all_fields(config)["evals.scenes.guidance"]
    assert guidance.left_out and guidance.value == 2.0 and "guidance" in guidance.help
