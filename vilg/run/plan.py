"""vilg plan: compiles a program under every layout for chips that are not here, and ranks the
layouts with the reason.

    vilg plan --config=experiments/ernie_vilg.py:10b --topology=v5p:4x4x4 \\
        --layouts=fsdp,fsdp_tp:model=4 --json=plan.json
    vilg plan --config=experiments/ablations/layouts.py:lite --html=lite.html

The second file names its own topologies and layouts.

The real train step (optimizer, average, accumulation, remat and donation included), or with
--program=sample what samples, is compiled ahead of time by libtpu on a machine without a TPU, or
for fake CPU devices with --topology=cpu:8. Bytes and FLOPs are counted from the compiled program
with loops multiplied out; seconds and MFU are XLA's estimates under the assumptions that are
printed beside them, never measurements. A layout that does not fit or fails is a row, which says
what would fit (compiled, too); the exit code is 0 if one row fits, 2 if every layout was refused
for what was asked (a mesh that does not divide, say), else 1. Compiled results are kept by content
in ~/.cache/vilg/plans ($VILG_CACHE)."""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from vilg.compiler.flags import FLAG_SETS, add_flags, parse_flags
from vilg.config import lookup, require
from vilg.experiment import build_experiment
from vilg.experiment_file import load_file, without_curriculum
from vilg.parallel.layouts import parse_layouts
from vilg.planning.advice import told
from vilg.planning.estimate import ASSUMPTIONS, calibration
from vilg.planning.programs import PROGRAMS
from vilg.planning.row import Task, blank, compiler, row_of
from vilg.planning.topology import (
    GIB,
    LIBTPU,
    Topology,
    ask_for_fake_devices,
    on_cpu,
    parse_topology,
)
from vilg.report.plans import write_plan
from vilg.run.terminal.outputs import output_file
from vilg.types import UserError
from vilg.workdir.files import versions

DIED = (
    "the compiler's process died: out of memory (then give --jobs=1), or of a crash of its own,"
    " which libtpu's log in /tmp/tpu_logs tells (a stack overflow: give --flags=tpu_large_stack)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
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


def main(args: argparse.Namespace, config: Any) -> int:
    """Compiles, ranks and prints; the exit code."""
    if config is None:
        raise UserError(
            "--config is missing: give an experiment, such as"
            " --config=experiments/ernie_vilg.py:10b"
        )
    file = load_file(args.config.partition(":")[0])
    topologies = [parse_topology(name) for name in args.topology or getattr(file, "TOPOLOGIES", ())]
    if not topologies:
        raise UserError(
            "--topology is missing: give what to compile for, such as v5p:4x4x4, or cpu:8 for fake"
            " devices"
        )
    layouts = list(parse_layouts(args.layouts or ",".join(getattr(file, "LAYOUTS", ("all",)))))
    lookup(PROGRAMS, args.program, "program")
    for name, path in (
        ("json", args.json),
        ("html", args.html),
        ("hlo", args.hlo and str(Path(args.hlo) / "layout.txt")),
    ):
        if path:
            output_file(path, f".{name}", name)
    require(
        args.jobs >= 0, "jobs", args.jobs, "give how many compilations run at once, or leave it out"
    )
    add_flags(args.flags)
    for topology in sorted(
        topologies, key=lambda t: t.size, reverse=True
    ):  # the largest says how many fake devices there are
        prepare(topology)
    config = without_curriculum(config)
    experiment = build_experiment(config)
    if args.batch is not None:
        config["training"]["batch_size"] = args.batch
        experiment = build_experiment(config)
    for topology in topologies:
        # an unknown shape or a missing libtpu is told before anything is compiled
        topology.devices()
    several = (
        len(topologies) > 1
    )  # then each has a directory of its own: programs are named by their layouts
    places = [
        str(Path(args.hlo) / str(t).replace(":", "_")) if args.hlo and several else args.hlo
        for t in topologies
    ]
    tasks = [
        Task(config, str(t), args.program, place, not args.no_advice)
        for t, place in zip(topologies, places, strict=True)
    ]
    report = {
        "rows": [],
        "versions": {**versions(), **compiler()},
        "assumptions": list(ASSUMPTIONS),
        "estimator_error": calibration(topologies),
        "config": args.config,
        "config_hash": experiment.hash,
        "flags": list(parse_flags(args.flags)),
    }
    for topology, task in zip(topologies, tasks, strict=True):
        rows = ranked(compile_all(task, layouts, args.jobs))
        report["rows"] += rows
        if args.json:
            Path(args.json).write_text(json.dumps(report, indent=1))
        if args.html:
            remedies = [
                (
                    told(row, fitting(report["rows"], row["topology"]))
                    if row["status"] == "oom"
                    else ""
                )
                for row in report["rows"]
            ]
            write_plan(args.html, report, args.config, remedies)
        show(rows, topology)
    for line in report["estimator_error"]:
        known = f"{line['configuration']}, compiled with {line['flags']},"
        print(
            f"the estimate of {known} is off by {line['error']:+.1%} of the published MFU,"
            f" {line['published']:.3f}"
        )
    if all(row["mistake"] for row in report["rows"]):
        return 2
    return 0 if any(row["status"] == "fits" for row in report["rows"]) else 1


def prepare(topology: Topology) -> None:
    """The environment that libtpu, or fake devices, need; before JAX is used."""
    for name, value in LIBTPU.items():
        os.environ.setdefault(name, value)
    on_cpu()
    if topology.generation == "cpu":
        ask_for_fake_devices(topology.size)


def compile_all(task: Task, layouts: Sequence[str], jobs: int) -> list[dict[str, Any]]:
    """A row a layout, compiled in processes of their own, since one may die or take all memory."""
    jobs = jobs or max(1, min(len(layouts), os.cpu_count() or 1, int(free_memory() / (6 * GIB))))
    rows = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(row_apart, task, layout): layout for layout in layouts}
        try:
            for done in concurrent.futures.as_completed(waiting):
                layout, row = waiting[done], done.result()
                kept = ", kept" if row["cached"] else ""
                print(
                    f"{layout}: {row['status']} after {row['compile_seconds']:.0f} s{kept}",
                    file=sys.stderr,
                    flush=True,
                )
                rows.append(row)
        except BaseException:  # interrupted: a compiler hears of it only when it is done
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.kill()
            raise
    return rows


def row_apart(task: Task, layout: str) -> dict[str, Any]:
    """The row of one layout from a process of its own: a pool of several that loses one loses
    all.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=context, initializer=end_with_parent
    ) as pool:
        try:
            return pool.submit(row_of, task, layout).result()
        except concurrent.futures.process.BrokenProcessPool:
            return blank(layout, task) | {"status": "error", "error": DIED}


def end_with_parent() -> None:
    """In a child: no compilation goes on, for minutes and gigabytes, after the command that wanted
    it was killed.
    """

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def free_memory() -> float:
    """Bytes that this machine could still give."""
    found = (
        re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if Path("/proc/meminfo").exists()
        else None
    )
    return int(found[1]) * 1024.0 if found else 8.0 * GIB


# --- what a person sees ---------------------------------------------------------------------------


def ranked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What fits first, by estimated step; then what does not fit, by bytes; then what failed."""
    order = ("fits", "oom", "error")

    def key(row: dict[str, Any]) -> tuple[int, float, str]:
        second = row["estimated_step_seconds"] if row["status"] == "fits" else row["hbm_bytes"]
        return order.index(row["status"]), float(second or 0), row["layout"]

    return [{**row, "rank": k + 1} for k, row in enumerate(sorted(rows, key=key))]


def fitting(rows: Sequence[Mapping[str, Any]], topology: str) -> str:
    """The best layout that fits on a topology, "" where none does."""
    return next(
        (row["layout"] for row in rows if row["status"] == "fits" and row["topology"] == topology),
        "",
    )


def show(rows: Sequence[Mapping[str, Any]], topology: Topology) -> None:
    """The table for people; below it what is wrong with layouts."""
    simple = topology.generation == "cpu"
    names = ("GiB", "TFLOP", "GB moved", *(() if simple else ("ms", "MFU", "bound by")))
    table = Table(
        Column("layout, mesh"),
        *(Column(name, justify="right", no_wrap=name != "bound by") for name in names),
        title=(
            f"{rows[0]['program']} step, batch {rows[0]['batch']}, {topology.chips} chips"
            f" ({topology})"
        ),
        caption=(
            "best first; of one device; moved: whole arrays in collectives, loops multiplied out"
        )
        + ("" if simple else "; times and MFU are XLA-estimated, never measured"),
    )
    for row in rows:
        cells = [f"{row['layout']} {'x'.join(map(str, (row['mesh'] or {}).values()))}"]
        if row["status"] == "fits":
            cells += [
                f"{row['hbm_bytes'] / GIB:.2f}",
                f"{row['flops_per_device'] / 1e12:.3g}",
                f"{sum(row['collective_bytes'].values()) / 1e9:.3g}",
            ]
            cells += (
                []
                if simple
                else [
                    f"{1e3 * row['estimated_step_seconds']:.1f}",
                    f"{row['estimated_mfu']:.3f}",
                    row["bound_by"],
                ]
            )
        else:
            cells += [
                "does not fit" if row["status"] == "oom" else "failed",
                *["-"] * (len(names) - 1),
            ]
        table.add_row(*cells)
    Console().print(table)
    for row in rows:
        if row["status"] == "fits" and len(row["collective_bytes"]) > 1:
            print(
                f"{row['layout']}: moves "
                + ", ".join(
                    f"{size / 1e9:.3g} GB over {axis}"
                    for axis, size in row["collective_bytes"].items()
                )
            )
        if row["status"] == "oom":
            needs = (
                f"needs {row['hbm_bytes'] / GIB:.2f} GiB, has"
                f" {row['hbm_limit_bytes'] / GIB:.2f} GiB"
            )
            print(f"{row['layout']}: {needs}; {told(row, fitting(rows, str(topology)))}")
        elif row["status"] == "error":
            print(f"{row['layout']}: {row['error']}")
        for warning in row["warnings"]:
            print(f"{row['layout']}: {warning}")
