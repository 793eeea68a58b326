"""Reading experiment files, and what a config says before anything is built from it.

An experiment file has a function `get_config`, or `get_config(size)` with its sizes in `SIZES`,
which gives a ConfigDict. Reading it loads none of the parts that are built from a config, so it
takes a fraction of a second; vilg/experiment.py builds them."""

import importlib.util
import inspect
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from vilg.config import lookup, require
from vilg.packaged import experiment_path
from vilg.types import UserError

# Fields and sections that may change between a run and its continuation, because what is learned
# does not depend on them: how often something is done, where files lie, the layout and evaluations.
# (The loader compares the records of data.*.path and data.*.of themselves.)
CHANGEABLE = (
    "training.checkpoint_every",
    "training.log_every",
    "training.evaluate_every",
    "training.sample_every",
    "training.keep_last",
    "training.keep_best",
    "training.start_from",
    "codec.workdir",
    "data.train.path",
    "data.valid.path",
    "data.train.of",
    "data.valid.of",
    "data.loader.workers",
    "data.loader.prefetch",
    "layout",
    "evals",
)
# The fields of a config that hold another experiment's config: that of the codec, and that of the
# run whose parameters this one starts from (a curriculum).
NESTED_EXPERIMENTS = (("codec", "experiment"), ("training", "first"))
# The sections that the experiments of one `generators` function have in common.
SHARED_SECTIONS = ("seed", "data", "codec", "layout")


def load_config(path: str, beside: str = "") -> ConfigDict:
    """The ConfigDict of "FILE.py[:size]" or "NAME[:size]" (packaged.py says what is found).

    With `beside` (an experiment's __file__) a relative path is looked for beside that file.

    Errors: UserError where there is no such file or size, and where the file has no get_config."""
    file, _, size = path.partition(":")
    names = vars(load_file(file, beside))
    get_config = names.get("get_config")
    if not callable(get_config):
        raise UserError(
            f"config={path!r}: the file has no function get_config, which gives an experiment's"
            " config; add one"
        )
    if size and "SIZES" in names:
        lookup(dict.fromkeys(names["SIZES"]), size, "config size")
    has_sizes = bool(inspect.signature(get_config).parameters)
    require(not size or has_sizes, "config size", size, f"{file} has no sizes; leave it out")
    config = get_config(size) if size else get_config()
    remedy = f"get_config gives a {type(config).__name__}; make it give a ConfigDict"
    if not isinstance(config, ConfigDict):
        raise UserError(f"config={path!r}: {remedy}")
    return config


def load_file(path: str, beside: str = "") -> ModuleType:
    """The module of an experiment, by its path or packaged name, as in `load_config`.

    Its author decides which names it defines; a reader takes those that may be missing from
    `vars(module)`."""
    target = experiment_path(path, beside)
    spec = importlib.util.spec_from_file_location(f"experiment_{target.stem}", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generator_configs(path: str, config: dict[str, Any], codec: Path) -> dict[str, dict[str, Any]]:
    """The configs of the file's function `generators`, by name; all use the codec in `codec`.

    `config`, with its overrides, takes the place of the first, and its SHARED_SECTIONS those of the
    others. A file without that function gives `config` alone, under its generator's name."""
    file, _, size = path.partition(":")
    generators = vars(load_file(file)).get("generators")
    name = config["generator"].get("name")
    require(bool(name), "config", path, "is a codec's experiment; give one that has a generator")
    configs = {name: config}
    if generators is not None:
        found = generators(size) if size else generators()
        configs = {name: to_dict(other) for name, other in found.items()}
    shared = {section: config[section] for section in SHARED_SECTIONS}
    shared["codec"] = {**config["codec"], "workdir": str(codec)}
    return {
        name: {**(config if place == 0 else other), **shared}
        for place, (name, other) in enumerate(configs.items())
    }


def to_dict(config: ConfigDict | Mapping[str, object]) -> dict[str, Any]:
    """A config as plain dicts and lists, as JSON gives them back."""
    plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return json.loads(json.dumps(plain))


def without_curriculum(config: ConfigDict | Mapping[str, object]) -> dict[str, Any]:
    """A config as plain dicts, without the experiment that is trained before it.

    Nothing about a single training step depends on training.first."""
    plain = to_dict(config)
    if isinstance(plain.get("training"), dict):
        plain["training"].pop("first", None)
    return plain


def run_identity(config: Mapping[str, object]) -> dict[str, Any]:
    """The part of a config that decides what a run learns in a step.

    It leaves out the CHANGEABLE fields and the number of steps. Two runs with the same identity may
    continue one another. The steps of NESTED_EXPERIMENTS belong to it, because the run depends on
    what they end with."""
    return _without(config, {*CHANGEABLE, "training.steps"})


def _without(
    config: Mapping[str, Any], fields: Collection[str], section: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The config without these fields (dotted paths), and without CHANGEABLE ones in the
    experiments inside it. `section` is the path of `config` in the whole config.
    """
    kept = {}
    for key, value in config.items():
        path = (*section, key)
        if path in NESTED_EXPERIMENTS and value:
            kept[key] = _without(value, CHANGEABLE)
        elif ".".join(path) not in fields:
            kept[key] = _without(value, fields, path) if isinstance(value, Mapping) else value
    return kept
