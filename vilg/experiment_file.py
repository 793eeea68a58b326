"""Experiment files: reading "FILE.py[:size]" to a ConfigDict, and questions that a config answers
without being built.

Separate from experiment.py, which builds objects of every part of vilg: an experiment file is read
in a fraction of a second."""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vilg.packaged import experiment_path

# What does not decide the results: lengths of what comes first or last, cadences, places, the
# layout (the loader compares what the sources hold). The same fields, but the length, are free in
# the experiments inside.
FREE = (
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
    "data.loader.workers",
    "data.loader.prefetch",
    "layout",
    "evals",
)


INNER = (("codec", "experiment"), ("training", "first"))


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without its length and without what is FREE: two runs of which these are equal may
    go on one from the other.
    """
    return _without(config, (*FREE, "training.steps"))


def _without(
    config: Mapping[str, Any], free: Sequence[str], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    kept = {}
    for key, value in config.items():
        place = (*path, key)
        if place in INNER and value:
            kept[key] = _without(value, FREE)
        elif ".".join(place) not in free:
            kept[key] = _without(value, free, place) if isinstance(value, Mapping) else value
    return kept


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain dicts and lists, as JSON gives them back."""
    plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    return json.loads(json.dumps(plain))


def alone(config: Any) -> dict[str, Any]:
    """A config as plain dicts, without the experiment that is trained before it: of one step
    nothing depends on that.
    """
    plain = to_dict(config)
    if isinstance(plain.get("training"), dict):
        plain["training"].pop("first", None)
    return plain


def load_config(path: str, beside: str = "") -> ConfigDict:
    """The ConfigDict of "FILE.py[:size]" or "NAME[:size]" (packaged.py says what is found).

    With `beside` (an experiment's __file__) a relative path is looked for beside that file."""
    file, _, size = path.partition(":")
    module = load_file(file, beside)
    return module.get_config(size) if size else module.get_config()


def load_file(path: str, beside: str = "") -> Any:
    """The module of an experiment, by its path or packaged name, as in `load_config`."""
    target = experiment_path(path, beside)
    spec = importlib.util.spec_from_file_location(f"experiment_{target.stem}", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHARED = ("seed", "data", "codec", "layout")  # sections that are the first config's in all


def all_generators(path: str, config: dict[str, Any], codec: Path) -> dict[str, dict[str, Any]]:
    """The configs that the file's `generators` names, the given config (with its overrides) in the
    place of the first; without such a function the given config alone. All use the codec trained in
    the directory `codec`."""
    file, _, size = path.partition(":")
    named = getattr(load_file(file), "generators", None)
    configs = (
        {n: to_dict(c) for n, c in (named(size) if size else named()).items()}
        if named
        else {config["generator"]["name"]: config}
    )
    for place, (name, other) in enumerate(configs.items()):
        configs[name] = {**(config if place == 0 else other), **{k: config[k] for k in SHARED}}
        configs[name]["codec"] = {**config["codec"], "workdir": str(codec)}
    return configs
