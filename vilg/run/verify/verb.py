"""The options of `vilg verify`, and the comparison of all layouts and options."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from vilg import stage
from vilg.config import require
from vilg.experiment import build_experiment
from vilg.experiment_file import without_curriculum
from vilg.parallel.layout import Layout
from vilg.parallel.layouts import parse_layout, parse_layouts
from vilg.planning.topology import add_fake_devices, use_cpu
from vilg.run.terminal.outputs import output_file
from vilg.run.verify.options import options_of, with_dtype, with_options
from vilg.run.verify.step import TOLERANCES, Inputs, Step, compared
from vilg.run.verify.table import options_text, show
from vilg.types import UserError
from vilg.workdir.files import versions

VARIED = ("dp", "fsdp_tp")  # layouts under which each option is changed alone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
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


def main(args: argparse.Namespace, config: ConfigDict | None) -> int:
    """Compares and prints; the exit code."""
    if config is None:
        raise UserError(
            "--config is missing: give an experiment, such as"
            " --config=experiments/ernie_vilg.py:tiny"
        )
    require(args.devices > 1, "devices", args.devices, "give at least 2")
    if args.json:
        output_file(args.json, ".json", "json")
    add_fake_devices(args.devices)
    use_cpu()
    present = len(jax.devices())
    require(
        present >= args.devices,
        "devices",
        args.devices,
        f"JAX has {present}; set XLA_FLAGS=--xla_force_host_platform_device_count={args.devices}",
    )
    plain = without_curriculum(config)
    build_experiment(plain)  # a section that is missing is an error before anything is changed
    plain = with_dtype(plain, args.dtype)
    rows = verify(plain, parse_layouts(args.layouts), args.devices, args.dtype, args.full)
    report = {
        "rows": rows,
        "reference": {"layout": "dp", "devices": 1},
        "tolerances": TOLERANCES[args.dtype],
        "versions": versions(),
    }
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1))
    show(rows, args.devices)
    named = args.layouts != "all"  # a layout that was named and could not be compared is no proof
    wrong = [row for row in rows if row["status"] != "equal" and (named or not row["error"])]
    return 0 if not wrong and any(row["status"] == "equal" for row in rows) else 1


def verify(
    config: Mapping[str, object],
    layouts: Mapping[str, Layout],
    devices: int,
    dtype: str,
    full: bool,
) -> list[dict[str, object]]:
    """A row for every layout and option. Lines on standard error say which steps are done."""
    changes = options_of(config)
    todo: list[tuple[str, dict[str, object]]] = [(name, {}) for name in layouts]
    todo += [
        (name, options)
        for options in changes
        for name in layouts
        if full or name.partition(":")[0] in VARIED
    ]
    say(f"vilg verify: {len(todo)} steps on {devices} fake devices, each compared with one device")
    inputs = Inputs(config)
    references: dict[int, Step] = {}  # by accumulation
    rows = []
    for name, options in todo:
        stage.enter(f"{name} {options_text(options)}".strip())
        began = time.monotonic()
        row = empty_row(name, devices, options, dtype)
        try:
            experiment = build_experiment(with_options(config, options))
            # microbatches draw their own randomness, so the reference has as many of them
            accumulation = experiment.training.accumulation
            if accumulation not in references:
                alone = build_experiment(with_options(config, {"accumulation": accumulation}))
                one = jax.devices()[:1]
                references[accumulation] = Step(alone, inputs, parse_layout("dp"), one)
            step = Step(experiment, inputs, layouts[name], jax.devices()[:devices])
            row |= {
                "mesh": step.mesh,
                "sharded_fraction": step.sharded_fraction,
                "collectives": step.collectives,
                "warnings": step.warnings,
            }
            row |= compared(references[accumulation], step, dtype)
        except UserError as error:  # a layout that does not fit this model or these devices
            row["error"] = str(error)
        row["seconds"] = time.monotonic() - began
        result = row["error"] or row["status"]
        say(f"{name} {options_text(options)}: {result}, {row['seconds']:.0f} s")
        rows.append(row)
    return rows


def empty_row(
    layout: str, devices: int, options: Mapping[str, object], dtype: str
) -> dict[str, object]:
    """A row of which nothing is known yet."""
    return {
        "layout": layout,
        "mesh": None,
        "devices": devices,
        "options": dict(options),
        "dtype": dtype,
        "loss_error": None,
        "gradient_error": None,
        "worst_leaf": None,
        "first_leaf": None,
        "sharded_fraction": None,
        "collectives": None,
        "warnings": [],
        "status": "invalid",
        "error": "",
    }


def say(line: str) -> None:
    """A line on standard error, at once."""
    print(line, file=sys.stderr, flush=True)
