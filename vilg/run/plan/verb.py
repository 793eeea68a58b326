"""The options of `vilg plan`, and its report."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vilg import stage
from vilg.compiler.flags import FLAG_SETS, add_flags, parse_flags
from vilg.config import lookup, require
from vilg.experiment import build_experiment
from vilg.experiment_file import load_file, without_curriculum
from vilg.parallel.layouts import parse_layouts
from vilg.planning.advice import remedy
from vilg.planning.compilation import libtpu_version
from vilg.planning.estimate import ASSUMPTIONS, calibration
from vilg.planning.programs import PROGRAMS
from vilg.planning.row import Row, Task
from vilg.planning.topology import LIBTPU, Topology, add_fake_devices, parse_topology, use_cpu
from vilg.report.plans import write_plan
from vilg.run.plan.processes import compile_all
from vilg.run.plan.table import best_layout, ranked, show
from vilg.run.terminal.outputs import output_file
from vilg.types import UserError
from vilg.workdir.files import versions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "--topology",
        action="append",
        metavar="NAME",
        help=(
            "v5p:4x4x4, v5e:16x16,slices=2, ..., or cpu:8 for fake devices; may be given several"
            " times (default: the config file's TOPOLOGIES)"
        ),
    )
    parser.add_argument(
        "--layouts",
        default="",
        help=(
            "names joined by commas, with sizes such as fsdp_tp:model=4 (default: the config file's"
            " LAYOUTS, else all)"
        ),
    )
    parser.add_argument(
        "--program", default="train", help=f"{' or '.join(PROGRAMS)} (default: train)"
    )
    parser.add_argument(
        "--flags",
        default="",
        metavar="NAMES",
        help=f"sets of XLA flags to compile with: {', '.join(FLAG_SETS)}",
    )
    parser.add_argument(
        "--batch",
        type=int,
        metavar="ROWS",
        help="the global batch of every row (default: the experiment's)",
    )
    parser.add_argument("--json", metavar="FILE", help="rows, versions and assumptions as JSON")
    parser.add_argument("--html", metavar="FILE", help="a page with a bar for every layout")
    parser.add_argument(
        "--no_advice",
        action="store_true",
        help="do not look for options with which a layout would fit that does not",
    )
    parser.add_argument("--hlo", metavar="DIR", help="keeps each optimized program as text")
    parser.add_argument(
        "--jobs",
        type=int,
        default=0,
        help="compilations at once (default: by cores and free memory)",
    )


def main(args: argparse.Namespace, config: ConfigDict | None) -> int:
    """Compiles, ranks and prints; the exit code."""
    if config is None:
        raise UserError(
            "--config is missing: give an experiment, such as"
            " --config=experiments/ernie_vilg.py:10b"
        )
    topologies, layouts = asked_for(args)
    check_options(args)
    add_flags(args.flags)
    # the largest topology says how many fake devices there are
    for topology in sorted(topologies, key=lambda t: t.size, reverse=True):
        prepare(topology)
    plain = without_curriculum(config)
    experiment = build_experiment(plain)
    if args.batch is not None:
        plain["training"]["batch_size"] = args.batch
        experiment = build_experiment(plain)
    print(
        f"vilg plan: {args.program} of {args.config} under {', '.join(layouts)} for"
        f" {', '.join(map(str, topologies))}",
        file=sys.stderr,
        flush=True,
    )
    for topology in topologies:
        topology.devices()  # an unknown shape or a missing libtpu is an error before all work
    report: dict[str, Any] = {
        "rows": [],
        "versions": {**versions(), **libtpu_version()},
        "assumptions": list(ASSUMPTIONS),
        "estimator_error": calibration(topologies),
        "config": args.config,
        "config_hash": experiment.hash,
        "flags": list(parse_flags(args.flags)),
    }
    for topology in topologies:
        hlo = args.hlo
        if hlo and len(topologies) > 1:  # files are named by layouts alone
            hlo = str(Path(hlo) / str(topology).replace(":", "_"))
        task = Task(plain, str(topology), args.program, hlo, not args.no_advice)
        stage.enter(f"compiling {len(layouts)} layouts for {topology}")
        rows = ranked(compile_all(task, layouts, args.jobs))
        report["rows"] += rows
        write(args, report)
        show(rows, topology)
    for error in report["estimator_error"]:
        print(
            f"the estimate of {error['configuration']}, compiled with {error['flags']}, is off by"
            f" {error['error']:+.1%} of the published MFU, {error['published']:.3f}"
        )
    return exit_code(report["rows"])


def asked_for(args: argparse.Namespace) -> tuple[list[Topology], list[str]]:
    """The topologies and the layouts of the options, else those of the experiment's file. Errors:
    UserError where there is no topology.
    """
    file = vars(load_file(args.config.partition(":")[0]))
    topologies = [parse_topology(name) for name in args.topology or file.get("TOPOLOGIES", ())]
    if not topologies:
        raise UserError(
            "--topology is missing: give what to compile for, such as v5p:4x4x4, or cpu:8 for fake"
            " devices"
        )
    return topologies, list(parse_layouts(args.layouts or ",".join(file.get("LAYOUTS", ("all",)))))


def check_options(args: argparse.Namespace) -> None:
    """Errors: UserError for an unknown program, a negative --jobs, or a file that cannot be
    written.
    """
    lookup(PROGRAMS, args.program, "program")
    for name, path in (
        ("json", args.json),
        ("html", args.html),
        ("hlo", args.hlo and str(Path(args.hlo) / "layout.txt")),
    ):
        if path:
            output_file(path, f".{name}", name)
    form = "give how many compilations run at once, or leave it out"
    require(args.jobs >= 0, "jobs", args.jobs, form)


def prepare(topology: Topology) -> None:
    """Sets the environment that libtpu or fake devices need; to be called before JAX is used."""
    for name, value in LIBTPU.items():
        os.environ.setdefault(name, value)
    use_cpu()
    if topology.generation == "cpu":
        add_fake_devices(topology.size)


def write(args: argparse.Namespace, report: dict[str, Any]) -> None:
    """Writes the report as JSON and as a page, where the options ask for them."""
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1))
    if args.html:
        rows = report["rows"]
        remedies = [
            remedy(row, best_layout(rows, row["topology"])) if row["status"] == "oom" else ""
            for row in rows
        ]
        write_plan(args.html, report, args.config, remedies)


def exit_code(rows: Sequence[Row]) -> int:
    """0 if a row fits, 2 if every row is a mistake, else 1."""
    if all(row["mistake"] for row in rows):
        return 2
    return 0 if any(row["status"] == "fits" for row in rows) else 1
