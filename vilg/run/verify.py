"""vilg verify: one step's loss and gradients under every layout on fake devices, against one
device.

    vilg verify --config=experiments/ernie_vilg.py:tiny --layouts=all --devices=8 --json=verify.json

First every layout with the config's own options, then each option (recomputation, accumulation,
scanned or unrolled layers, the way attention is computed, the TPU's kernel interpreted, both
directions in one pass) changed alone under dp and fsdp_tp; with --full every option under every
layout. Parameters, codes and randomness are the same everywhere: parameters are the initial ones,
disturbed, so that none hides what comes before it; codes are those of random pictures, computed
once. Gradients are compared, not updated weights, which Adam makes equal where they are not. Exit
code 1 if a row differs, a layout that was named could not be compared, or none was."""

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Column, Table

from vilg.codecs.base import to_unit
from vilg.compiler.warnings import compiler_warnings
from vilg.config import lookup, require
from vilg.experiment import MODELS, Experiment, build_experiment
from vilg.experiment_file import without_curriculum
from vilg.fit import path_name
from vilg.nn.attention import IMPLEMENTATIONS
from vilg.nn.cross_attention import AUTO as JOINT_AUTO
from vilg.nn.cross_attention import IMPLEMENTATIONS as JOINT
from vilg.nn.dense import DTYPES
from vilg.overrides import override, values
from vilg.parallel.layout import Layout
from vilg.parallel.layouts import parse_layout, parse_layouts
from vilg.planning.costs import count
from vilg.planning.hlo import parse
from vilg.planning.topology import ask_for_fake_devices, on_cpu
from vilg.program import Program, unbox
from vilg.run.terminal.outputs import output_file
from vilg.types import UserError
from vilg.workdir.files import versions

TOLERANCES = {
    "float32": {"loss": 1e-5, "gradients": 1e-5},
    "bfloat16": {"loss": 1e-3, "gradients": 2e-2},
}
SHORT = {
    "all-reduce": "AR",
    "all-gather": "AG",
    "reduce-scatter": "RS",
    "all-to-all": "A2A",
    "collective-permute": "CP",
}
FLOOR = 1e-3  # of the largest leaf's largest gradient: a smaller leaf is measured against that
VARIED = ("dp", "fsdp_tp")  # under which each option is changed alone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument(
        "--layouts",
        default="all",
        help="names joined by commas, with sizes such as fsdp_tp:model=4 (default: all)",
    )
    parser.add_argument("--devices", type=int, default=8, help="fake devices (default: 8)")
    parser.add_argument(
        "--dtype",
        choices=sorted(TOLERANCES),
        default="float32",
        help="of the model's computation (default: float32)",
    )
    parser.add_argument("--full", action="store_true", help="every option under every layout")
    parser.add_argument("--json", metavar="FILE", help="rows and tolerances as JSON")


def main(args: argparse.Namespace, config: Any) -> int:
    """Compares and prints; the exit code."""
    if config is None:
        raise UserError(
            "--config is missing: give an experiment, such as"
            " --config=experiments/ernie_vilg.py:tiny"
        )
    require(args.devices > 1, "devices", args.devices, "give at least 2")
    if args.json:
        output_file(args.json, ".json", "json")
    ask_for_fake_devices(args.devices)
    on_cpu()
    here = len(jax.devices())
    require(
        here >= args.devices,
        "devices",
        args.devices,
        f"JAX has {here}; set XLA_FLAGS=--xla_force_host_platform_device_count={args.devices}",
    )
    config = without_curriculum(config)
    build_experiment(config)  # what is missing is said before anything is changed
    config = with_dtype(config, args.dtype)
    rows = verify(config, parse_layouts(args.layouts), args.devices, args.dtype, args.full)
    report = {
        "rows": rows,
        "reference": {"layout": "dp", "devices": 1},
        "tolerances": TOLERANCES[args.dtype],
        "versions": versions(),
    }
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1))
    show(rows, args.devices)
    asked = args.layouts != "all"  # a layout that was named and could not be compared is no proof
    wrong = [row for row in rows if row["status"] != "equal" and (asked or not row["error"])]
    return 0 if not wrong and any(row["status"] == "equal" for row in rows) else 1


def with_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """The config with every "dtype" of the generator set."""
    require(dtype in DTYPES, "dtype", dtype, f"must be one of {', '.join(DTYPES)}")
    return with_changes(config, {"generator.*.dtype": dtype})


def with_changes(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config with values at dotted paths; a path with "*" that no section has is left out."""
    return override(config, {p: v for p, v in changes.items() if "*" not in p or values(config, p)})


# --- options --------------------------------------------------------------------------------------


def options_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What can be changed without changing the result: one changed option each, as {option:
    value}.
    """
    generator = dict(config["generator"])
    found: list[dict[str, Any]] = [
        {"accumulation": 2 if config["training"].get("accumulation", 1) == 1 else 1}
    ]
    remats = values(config, PATHS["remat"])
    if remats:
        found += [{"remat": "full" if remats[0] == "none" else "none"}]
    scans = values(config, PATHS["scan"])
    if scans:
        found += [{"scan": not scans[0]}]
    if "denoiser" in generator:
        own = generator["denoiser"].get("attention_implementation", "auto")
        found += [
            {"attention_implementation": name}
            for name in JOINT
            if name != (JOINT_AUTO["cpu"] if own == "auto" else own)
        ]
    model = (
        dataclasses.fields(lookup(MODELS, generator["name"], "generator.name"))
        if "name" in generator
        else ()
    )  # a codec's run has none
    fields = {field.name: field.default for field in model}
    if isinstance(fields.get("attention"), str):
        found += [
            {"attention": name}
            for name in IMPLEMENTATIONS
            if name != generator.get("attention", fields["attention"])
        ]
    if "directions" in fields:
        found += [
            {
                "directions": (
                    "apart"
                    if generator.get("directions", fields["directions"]) == "together"
                    else "together"
                )
            }
        ]
    return found


PATHS = {
    "accumulation": "training.accumulation",
    "remat": "generator.*.remat",
    "scan": "generator.*.scan",
    "attention": "generator.attention",
    "directions": "generator.directions",
    "attention_implementation": "generator.denoiser.attention_implementation",
}


def with_options(config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The config with options (keys of PATHS) changed wherever the config has them."""
    changes = {PATHS[name]: value for name, value in options.items()}
    if "attention_implementation" in options:
        changes["generator.denoiser.query_chunk"] = 0
    return with_changes(config, changes)


# --- one step -------------------------------------------------------------------------------------


class Inputs:
    """What every step is given: parameters of the scanned model, and a batch with codes, on the
    host.
    """

    def __init__(self, config: Mapping[str, Any]):
        scanned = build_experiment(with_options(config, {"scan": True}))
        self.params = jax.device_get(
            disturbed(unbox(scanned.trainable.init(jax.random.key(scanned.seed))))
        )
        self.batch = batch_of(scanned)

    def params_of(self, experiment: Experiment) -> Any:
        """The parameters as this experiment has them."""
        return self.params if is_scanned(experiment) else plain(experiment, self.params)


def is_scanned(experiment: Experiment) -> bool:
    """Whether its generator scans its layers."""
    return any(values(experiment.config, PATHS["scan"]))


def plain(experiment: Experiment, params: Any) -> Any:
    """Parameters, or gradients, with layers apart."""
    return experiment.model.unrolled(params)


def disturbed(params: Any) -> Any:
    """Without zeros that hide what comes before them, and with experts that differ."""
    return jax.tree.map(
        lambda x: x + 0.02 * jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params
    )


def batch_of(experiment: Experiment) -> dict[str, np.ndarray]:
    """Random pictures and texts; for a generator the pictures' codes under its codec's initial
    parameters, computed once.
    """
    rng = np.random.default_rng(0)
    size, side = experiment.training.batch_size, experiment.image_codec.image_size
    images = rng.integers(0, 256, (size, side, side, 3), dtype=np.uint8)
    if not experiment.model.reads_codes:
        return {"image": images}
    text = rng.integers(
        5, experiment.data.text.vocabulary, (size, experiment.data.text.length)
    ).astype(np.int32)
    codec: Any = experiment.image_codec
    frozen = experiment.space.freeze(unbox(codec.init(jax.random.key(1))), None)
    codes = np.asarray(experiment.space.encode(frozen, to_unit(jnp.asarray(images))))
    if codes.dtype == np.float32:
        codes = ((codes - codes.mean()) / max(float(codes.std()), 1e-6)).astype(np.float32)
    return {"text": text, "codes": codes}


class Step:
    """Loss, gradients by name (layers apart), collectives and the sharded share of one step."""

    def __init__(
        self, experiment: Experiment, inputs: Inputs, layout: Layout, devices: Sequence[jax.Device]
    ):
        program = Program(experiment, devices, layout)
        params = jax.device_put(inputs.params_of(experiment), program.state_sharding.params)
        batch = {k: jax.device_put(v, program.batch_sharding) for k, v in inputs.batch.items()}
        lowered = program.jit(
            lambda p, b: program.gradients(p, b, jax.random.key(3), jnp.int32(5))
        ).lower(params, batch)
        with compiler_warnings() as self.warnings:
            compiled = lowered.compile()
        metrics, _, grads = compiled(params, batch)
        grads = jax.device_get(grads)
        grads = plain(experiment, grads) if is_scanned(experiment) else grads
        self.loss = float(metrics["loss"])
        self.gradients = {
            path_name(p): np.asarray(g, np.float32)
            for p, g in jax.tree_util.tree_flatten_with_path(grads)[0]
        }
        self.mesh, self.sharded_fraction = program.sizes, program.sharded_fraction
        self.collectives = count(parse(compiled.as_text()), program.sizes).table()


def compared(reference: Step, other: Step, dtype: str) -> dict[str, Any]:
    """Errors and the status of a step against the reference. Of gradients: the largest difference
    in a leaf, over the larger of the leaf's own largest value and FLOOR x the largest leaf's;
    `worst_leaf` names it. A step without collectives computes something else."""
    tolerances = TOLERANCES[dtype]
    largest = max(float(np.abs(g).max(initial=0)) for g in reference.gradients.values())
    errors = {}
    for name, g in reference.gradients.items():
        scale = max(float(np.abs(g).max(initial=0)), FLOOR * largest)
        difference = (
            np.abs(g - other.gradients[name]).max(initial=0)
            if np.isfinite(other.gradients[name]).all()
            else np.inf
        )
        errors[name] = float(difference / max(scale, 1e-30))
    worst = max(errors, key=lambda name: errors[name])
    loss = abs(other.loss - reference.loss) / max(abs(reference.loss), 1e-30)
    equal = loss <= tolerances["loss"] and errors[worst] <= tolerances["gradients"]
    first = next((name for name, error in errors.items() if error > tolerances["gradients"]), None)
    silent = not other.collectives and int(np.prod(list(other.mesh.values()))) > 1
    return {
        "loss_error": loss,
        "gradient_error": errors[worst],
        "worst_leaf": worst,
        "first_leaf": first,
        "status": "invalid" if silent else "equal" if equal else "differs",
    }


def verify(
    config: Mapping[str, Any], layouts: Mapping[str, Layout], devices: int, dtype: str, full: bool
) -> list[dict[str, Any]]:
    """A row for every layout and option."""
    inputs = Inputs(config)
    references: dict[int, Step] = {}
    rows = []
    changes = options_of(config)
    todo = [(name, {}) for name in layouts] + [
        (name, o) for o in changes for name in layouts if full or name.partition(":")[0] in VARIED
    ]
    for name, options in todo:
        began = time.monotonic()
        row: dict[str, Any] = {
            "layout": name,
            "mesh": None,
            "devices": devices,
            "options": options,
            "dtype": dtype,
            "loss_error": None,
        }
        row |= {
            "gradient_error": None,
            "worst_leaf": None,
            "first_leaf": None,
            "sharded_fraction": None,
            "collectives": None,
        }
        row |= {"warnings": [], "status": "invalid", "error": ""}
        try:
            experiment = build_experiment(with_options(config, options))
            accumulation = (
                experiment.training.accumulation
            )  # what a microbatch draws is its own, so one device has to have as many
            if accumulation not in references:
                alone = build_experiment(with_options(config, {"accumulation": accumulation}))
                references[accumulation] = Step(
                    alone, inputs, parse_layout("dp"), jax.devices()[:1]
                )
            step = Step(experiment, inputs, layouts[name], jax.devices()[:devices])
            row |= {
                "mesh": step.mesh,
                "sharded_fraction": step.sharded_fraction,
                "collectives": step.collectives,
                "warnings": step.warnings,
            }
            row |= compared(references[accumulation], step, dtype)
        # a layout that does not fit this model or these devices is said, and compares nothing
        except UserError as error:
            row["error"] = str(error)
        row["seconds"] = time.monotonic() - began
        told = ", ".join(f"{k}={v}" for k, v in options.items())
        print(
            f"{name} {told}: {row['error'] or row['status']}, {row['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        rows.append(row)
    return rows


def show(rows: Sequence[Mapping[str, Any]], devices: int) -> None:
    """The table for people; below it what differs, and what was not compared."""
    numbers = (Column(n, justify="right", no_wrap=True) for n in ("loss", "grads", "sharded"))
    named = (
        Column(n, overflow="fold") for n in ("layout", "options")
    )  # whole, however narrow the screen
    table = Table(
        *named,
        *numbers,
        "collectives",
        Column("verdict", no_wrap=True),
        title=f"one step on {devices} devices against one, relative errors",
        caption=", ".join(f"{short}: {kind}" for kind, short in SHORT.items()),
    )
    for row in rows:
        options = ", ".join(f"{k}={v}" for k, v in row["options"].items())
        if row["error"]:
            table.add_row(row["layout"], options, *["-"] * 4, "none")
            continue
        mesh = "x".join(map(str, row["mesh"].values()))
        counts: Counter[str] = Counter()
        for kinds in row["collectives"].values():
            for kind, entry in kinds.items():
                counts[str(SHORT.get(kind, kind))] += int(entry["count"])
        told = ", ".join(f"{kind} {count}" for kind, count in counts.items()) or "none"
        errors = (
            f"{row['loss_error']:.1e}",
            f"{row['gradient_error']:.1e}",
            f"{row['sharded_fraction']:.0%}",
        )
        table.add_row(f"{row['layout']} {mesh}", options, *errors, told, row["status"])
    Console().print(table)
    for row in rows:
        if row["error"]:
            print(f"{row['layout']}: {row['error']}")
        elif row["status"] == "differs":
            print(
                f"{row['layout']}: {row['first_leaf'] or 'the loss'} differs; the worst is"
                f" {row['worst_leaf']} ({row['gradient_error']:.1e})"
            )
        elif row["status"] == "invalid":
            print(
                f"{row['layout']}: no collectives on {row['devices']} devices: it computes"
                " something else"
            )
        for warning in row["warnings"]:
            print(f"{row['layout']}: {warning}")
