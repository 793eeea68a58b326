"""The options that `vilg verify` varies: those of a config that must not change a result."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vilg.config import lookup, require
from vilg.experiment import MODELS
from vilg.nn.attention import IMPLEMENTATIONS
from vilg.nn.cross_attention import AUTO as JOINT_AUTO
from vilg.nn.cross_attention import IMPLEMENTATIONS as JOINT_IMPLEMENTATIONS
from vilg.nn.dense import DTYPES
from vilg.overrides import override, values

PATHS = {
    "accumulation": "training.accumulation",
    "remat": "generator.*.remat",
    "scan": "generator.*.scan",
    "attention": "generator.attention",
    "directions": "generator.directions",
    "attention_implementation": "generator.denoiser.attention_implementation",
}


def options_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every option that can be changed without changing the result, as {key of PATHS: value}."""
    generator = dict(config["generator"])
    accumulation = config["training"].get("accumulation", 1)
    options: list[dict[str, Any]] = [{"accumulation": 2 if accumulation == 1 else 1}]
    if remats := values(config, PATHS["remat"]):
        options.append({"remat": "full" if remats[0] == "none" else "none"})
    if scans := values(config, PATHS["scan"]):
        options.append({"scan": not scans[0]})
    if "denoiser" in generator:
        own = generator["denoiser"].get("attention_implementation", "auto")
        own = JOINT_AUTO["cpu"] if own == "auto" else own
        options += [{"attention_implementation": n} for n in JOINT_IMPLEMENTATIONS if n != own]
    if "name" not in generator:  # the run of a codec has no generator
        return options
    model = lookup(MODELS, generator["name"], "generator.name")
    defaults = {field.name: field.default for field in dataclasses.fields(model)}
    if isinstance(defaults.get("attention"), str):
        own = generator.get("attention", defaults["attention"])
        options += [{"attention": name} for name in IMPLEMENTATIONS if name != own]
    if "directions" in defaults:
        own = generator.get("directions", defaults["directions"])
        options.append({"directions": "apart" if own == "together" else "together"})
    return options


def with_options(config: Mapping[str, object], options: Mapping[str, object]) -> dict[str, object]:
    """The config with options (keys of PATHS) changed wherever the config has them."""
    changes = {PATHS[name]: value for name, value in options.items()}
    if "attention_implementation" in options:
        changes["generator.denoiser.query_chunk"] = 0
    return _with_changes(config, changes)


def with_dtype(config: Mapping[str, object], dtype: str) -> dict[str, object]:
    """The config with every "dtype" of the generator changed."""
    require(dtype in DTYPES, "dtype", dtype, f"must be one of {', '.join(DTYPES)}")
    return _with_changes(config, {"generator.*.dtype": dtype})


def _with_changes(config: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """The config with values at dotted paths; a path with "*" that no section has is left out."""
    return override(config, {p: v for p, v in changes.items() if "*" not in p or values(config, p)})
