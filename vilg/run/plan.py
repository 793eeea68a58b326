"""vilg plan: compiles a program under every layout for chips that are not here, and ranks the layouts with the reason.

    vilg plan --config=experiments/ernie_vilg.py:10b --topology=v5p:4x4x4 --layouts=fsdp,fsdp_tp:model=4 --json=plan.json

The real train step (optimizer, average, accumulation, remat and donation included), or with --program=sample what samples, is compiled
ahead of time by libtpu on a machine without a TPU, or for fake CPU devices with --topology=cpu:8. Bytes and FLOPs are counted from the compiled
program with loops multiplied out; seconds and MFU are XLA's estimates under the assumptions that are printed beside them, never
measurements. A layout that does not fit or fails is a row, which says what would fit (compiled, too); the exit code is 0 if one row fits,
else 1. Compiled results are kept by content in ~/.cache/vilg/plans ($VILG_CACHE).
"""

import argparse
import concurrent.futures
import dataclasses
import gzip
import hashlib
import json
import math
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Column, Table

from vilg.config import lookup
from vilg.experiment import build_experiment, to_dict
from vilg.parallel import costs as counting
from vilg.parallel.estimate import ASSUMPTIONS, estimate
from vilg.parallel.flags import FLAG_SETS, ask_for_flags, parse_flags
from vilg.parallel.hlo import parse
from vilg.parallel.layouts import parse_layouts
from vilg.parallel.memory import Buffer, fullest
from vilg.parallel.phases import PHASES
from vilg.parallel.topology import GIB, LIBTPU, Topology, ask_for_fake_devices, parse_topology
from vilg.program import Program
from vilg.report.plans import write_plan
from vilg.run.compiler_warnings import compiler_warnings
from vilg.run.lowering import PROGRAMS, Planned
from vilg.run.outputs import output_file
from vilg.run.plan_advice import first_that_fits, told
from vilg.run.workdir import versions
from vilg.types import UserError

FORMAT = 2  # of what is kept: a change of rows makes older ones useless
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
LARGEST = 8  # buffers that a row names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--topology", required=True, metavar="NAME", help="v5p:4x4x4, v5e:16x16,slices=2, ..., or cpu:8 for fake devices")
    parser.add_argument("--layouts", default="all", help="names joined by commas, with sizes such as fsdp_tp:model=4 (default: all)")
    parser.add_argument("--program", default="train", help=f"{' or '.join(PROGRAMS)} (default: train)")
    parser.add_argument("--flags", default="", metavar="NAMES", help=f"sets of XLA flags to compile with: {', '.join(FLAG_SETS)}")
    parser.add_argument("--batch", type=int, metavar="ROWS", help="the global batch of every row (default: the experiment's)")
    parser.add_argument("--json", metavar="FILE", help="rows, versions and assumptions as JSON")
    parser.add_argument("--html", metavar="FILE", help="a page with a bar for every layout")
    parser.add_argument("--no_advice", action="store_true", help="do not look for options with which a layout would fit that does not")
    parser.add_argument("--hlo", metavar="DIR", help="keeps each optimized program as text")
    parser.add_argument("--jobs", type=int, default=0, help="compilations at once (default: by cores and free memory)")


def main(args: argparse.Namespace, config: Any) -> int:
    """Compiles, ranks and prints; the exit code."""
    if config is None:
        raise UserError("--config is missing: give an experiment, such as --config=experiments/ernie_vilg.py:10b")
    topology = parse_topology(args.topology)
    lookup(PROGRAMS, args.program, "program")
    for path, kind in ((args.json, ".json"), (args.html, ".html")):
        if path:
            output_file(path, kind)
    ask_for_flags(args.flags)
    prepare(topology)
    config = to_dict(config)
    if args.batch is not None:
        config["training"]["batch_size"] = args.batch
    layouts = list(parse_layouts(args.layouts))
    experiment = build_experiment(config)
    topology.devices()  # an unknown shape or a missing libtpu is told before anything is compiled
    task = Task(config, str(topology), args.program, args.hlo, not args.no_advice)
    rows = ranked(compile_all(task, layouts, args.jobs))
    report = {
        "rows": rows,
        "versions": {**versions(), **compiler()},
        "assumptions": list(ASSUMPTIONS),
        "estimator_error": None,  # not calibrated on a published configuration yet
        "config_hash": experiment.hash,
        "flags": list(parse_flags(args.flags)),
    }
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1))
    if args.html:
        write_plan(args.html, report, args.config, [told(row, fitting(rows)) if row["status"] == "oom" else "" for row in rows])
    show(rows, topology)
    return 0 if any(row["status"] == "fits" for row in rows) else 1


def prepare(topology: Topology) -> None:
    """The environment that libtpu, or fake devices, need; before JAX is used."""
    for name, value in LIBTPU.items():
        os.environ.setdefault(name, value)
    if topology.generation == "cpu":
        ask_for_fake_devices(topology.size)


def compiler() -> dict[str, str]:
    """The version of libtpu, where it is installed."""
    from importlib import metadata

    try:
        return {"libtpu": metadata.version("libtpu")}
    except metadata.PackageNotFoundError:
        return {}


@dataclasses.dataclass(frozen=True)
class Task:
    """What is compiled under every layout; plain values, since it goes to other processes."""

    config: dict[str, Any]
    topology: str
    program: str = "train"
    hlo: str | None = None
    advice: bool = True


def compile_all(task: Task, layouts: Sequence[str], jobs: int) -> list[dict[str, Any]]:
    """A row a layout, compiled in processes of their own, since one may die or take all memory."""
    jobs = jobs or max(1, min(len(layouts), os.cpu_count() or 1, int(free_memory() / (6 * GIB))))
    context = multiprocessing.get_context("spawn")
    rows = []
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        waiting = {pool.submit(row_of, task, layout): layout for layout in layouts}
        for done in concurrent.futures.as_completed(waiting):
            layout = waiting[done]
            try:
                row = done.result()
            except concurrent.futures.process.BrokenProcessPool:
                row = blank(layout, task) | {"status": "error", "error": "the compiler's process died (memory?); give --jobs=1"}
            print(f"{layout}: {row['status']} after {row['compile_seconds']:.0f} s{', kept' if row['cached'] else ''}", file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def free_memory() -> float:
    """Bytes that this machine could still give."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text()) if Path("/proc/meminfo").exists() else None
    return int(found[1]) * 1024.0 if found else 8.0 * GIB


# --- one layout ------------------------------------------------------------------------------------------------------------


def blank(layout: str, task: Task) -> dict[str, Any]:
    """A row of which nothing is known yet."""
    topology = parse_topology(task.topology)
    names = (
        "error hbm_bytes hbm host_bytes flops_per_device model_flops_per_device collective_bytes collectives estimated_step_seconds mfu "
        "estimated_mfu tokens_per_second_per_chip images_per_second_per_chip sharded_fraction bound_by"
    )
    row: dict[str, Any] = {"rank": None, "layout": layout, "topology": task.topology, "program": task.program}
    row |= {"devices": topology.size, "mesh": None, "batch": task.config["training"]["batch_size"], "status": "error"}
    row |= dict.fromkeys(names.split())
    row |= {"hbm_limit_bytes": topology.chip.hbm / topology.chip.devices, "compile_seconds": 0.0, "cached": False, "warnings": []}
    return row


def row_of(task: Task, layout: str) -> dict[str, Any]:
    """The row of one layout; every failure is a row too."""
    row, began = blank(layout, task), time.monotonic()
    topology = parse_topology(task.topology)
    try:
        program, planned, found = compiled(task, task.config, layout)
        row |= {"mesh": program.sizes, "sharded_fraction": program.sharded_fraction}
        row |= {"model_flops_per_device": planned.model_flops / topology.size, "cached": found["cached"], "warnings": found["warnings"]}
        if found["oom"]:
            row |= {"status": "oom", "hbm_bytes": found["oom"]["needs"], "hbm_limit_bytes": found["oom"]["has"]}
        else:
            row |= measured(program, planned, found, topology)
            if task.hlo:
                Path(task.hlo).mkdir(parents=True, exist_ok=True)
                (Path(task.hlo) / f"{layout.replace(':', '_').replace('=', '')}.txt").write_text(found["text"])
        if row["status"] == "oom" and task.advice:
            row |= first_that_fits(task.config, task.program, lambda c: bytes_needed(compiled(task, c, layout)[2]), row["hbm_limit_bytes"])
    except UserError as error:
        row["error"] = str(error)
    except Exception as error:  # noqa: BLE001 - a layout that fails is a row, whatever the compiler says
        row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
    row["compile_seconds"] = time.monotonic() - began
    return row


def compiled(task: Task, config: Mapping[str, Any], layout: str) -> tuple[Program, Planned, dict[str, Any]]:
    """The program under a layout, what it is worth, and what the compiler says (compiled_text)."""
    topology = parse_topology(task.topology)
    program = Program(build_experiment({**config, "layout": {"name": layout}}), topology.devices())
    planned = PROGRAMS[task.program](program)
    lowered = planned.lower()
    return program, planned, compiled_text(lowered, kept_at(lowered, topology))


def bytes_needed(found: Mapping[str, Any]) -> float:
    """Bytes of a device's memory that a compiled program wants."""
    if found["oom"]:
        return found["oom"]["needs"]
    memory = found["memory"]
    return float(memory["argument"] + memory["output"] - memory["alias"] + memory["temp"] + memory["generated_code"])


def kept_at(lowered: Any, topology: Topology) -> Path:
    """Where the result of compiling this program for this topology is kept: by the program's own text and the compiler."""
    flags = [os.environ.get(variable, "") for variable in ("LIBTPU_INIT_ARGS", "XLA_FLAGS")]
    content = [FORMAT, lowered.as_text(), str(topology), {**versions(), **compiler()}, flags]
    place = Path(os.environ.get("VILG_CACHE") or Path.home() / ".cache" / "vilg") / "plans"
    return place / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}.json.gz"


def compiled_text(lowered: Any, place: Path) -> dict[str, Any]:
    """{"text", "memory", "oom", "warnings", "cached"} of the compiled program, from what is kept, else compiled now and kept."""
    if place.is_file():
        return {**json.loads(gzip.decompress(place.read_bytes())), "cached": True}
    found: dict[str, Any] = {"text": "", "memory": {}, "oom": None, "warnings": []}
    try:
        with compiler_warnings() as found["warnings"]:
            compiled = lowered.compile()
        memory = compiled.memory_analysis()
        names = ("argument", "output", "alias", "temp", "generated_code", "host_argument", "host_output", "host_alias", "host_temp")
        found["memory"] = {name: getattr(memory, f"{name}_size_in_bytes", 0) for name in names}
        found["text"] = compiled.as_text()
    except Exception as error:  # the compiler's own error classes differ between releases
        found["oom"] = out_of_memory(str(error))
        if found["oom"] is None:
            raise
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(gzip.compress(json.dumps(found).encode(), 5))
    temporary.replace(place)
    return {**found, "cached": False}


def out_of_memory(message: str) -> dict[str, float] | None:
    """{"needs", "has"} in bytes of a compiler's refusal for want of memory; None for any other error."""
    found = re.search(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm", message) or re.search(
        r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)", message
    )
    if not found:
        return None
    return {"needs": float(found[1]) * UNITS[found[2]], "has": float(found[3]) * UNITS[found[4]]}


def measured(program: Program, planned: Planned, found: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """What a row says of a program that was compiled."""
    module = parse(found["text"])
    costs = counting.count(module, program.sizes)
    table, alive = costs.table(), fullest(module)
    chip, memory = topology.chip, found["memory"]
    seconds = estimate(costs, topology, list(program.mesh.devices.flat))
    mfu = seconds.mfu(planned.model_flops / topology.size, chip)
    needed, limit = bytes_needed(found), chip.hbm / chip.devices
    warnings = [*found["warnings"], *costs.warnings]
    return {
        "status": "fits" if needed <= limit or topology.generation == "cpu" else "oom",
        "hbm_bytes": needed,
        "hbm_limit_bytes": limit,
        "hbm": split(planned, alive, float(memory["temp"])),
        "largest_buffers": [vars(b) for b in alive[:LARGEST]],
        "host_bytes": memory["host_argument"] + memory["host_output"] - memory["host_alias"] + memory["host_temp"],
        "flops_per_device": costs.total_flops,
        "flops_by_phase": dict(costs.flops),
        "collective_bytes": {axis: sum(kind["bytes"] for kind in kinds.values()) for axis, kinds in table.items()},
        "collectives": table,
        "collectives_by_phase": {phase: part for phase in PHASES if (part := costs.table(phase=phase))},
        "estimated_step_seconds": seconds.likely,
        "seconds": {"compute": seconds.compute, "memory": seconds.memory, "asynchronous": seconds.asynchronous, "synchronous": seconds.synchronous},
        "mfu": mfu,
        "estimated_mfu": mfu["likely"],
        "tokens_per_second_per_chip": planned.tokens / seconds.likely / topology.chips if planned.tokens else None,
        "images_per_second_per_chip": planned.images / seconds.likely / topology.chips,
        "bound_by": seconds.bound_by,
        "warnings": warnings,
    }


def split(planned: Planned, alive: Sequence[Buffer], temporary: float) -> dict[str, float]:
    """Bytes a device by what they hold. Activations: what the forward pass leaves for the backward pass when memory is fullest."""

    def bytes_of(tree: Any) -> float:
        return float(sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)))

    activations = min(temporary, sum(b.bytes for b in alive if b.phase == "forward"))
    held = {"parameters": bytes_of(planned.params), "optimizer": bytes_of(planned.beside)}
    return held | {"activations": activations, "temporaries": temporary - activations}


# --- what a person sees ----------------------------------------------------------------------------------------------------


def ranked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What fits first, by estimated step; then what does not fit, by bytes; then what failed."""
    order = ("fits", "oom", "error")

    def key(row: dict[str, Any]) -> tuple[int, float, str]:
        second = row["estimated_step_seconds"] if row["status"] == "fits" else row["hbm_bytes"]
        return order.index(row["status"]), float(second or 0), row["layout"]

    return [{**row, "rank": k + 1} for k, row in enumerate(sorted(rows, key=key))]


def fitting(rows: Sequence[Mapping[str, Any]]) -> str:
    """The best layout that fits, "" where none does."""
    return next((row["layout"] for row in rows if row["status"] == "fits"), "")


def show(rows: Sequence[Mapping[str, Any]], topology: Topology) -> None:
    """The table for people; below it what is wrong with layouts."""
    simple = topology.generation == "cpu"
    names = ("GiB/device", "TFLOP", "collectives, GB", *(() if simple else ("step ms", "MFU", "bound by")))
    table = Table(
        Column("#", justify="right"), Column("layout", no_wrap=True), "mesh", *(Column(name, justify="right") for name in names),
        title=f"{rows[0]['program']} step, batch {rows[0]['batch']}, {topology.chips} chips ({topology})",
        caption="bytes are of whole arrays, loops multiplied out" + ("" if simple else "; times and MFU are XLA-estimated, never measured"),
    )  # fmt: skip
    for row in rows:
        mesh = "x".join(f"{axis}={size}" for axis, size in (row["mesh"] or {}).items())
        cells = [str(row["rank"]), row["layout"], mesh]
        if row["status"] == "fits":
            moved = ", ".join(f"{axis} {size / 1e9:.3g}" for axis, size in row["collective_bytes"].items()) or "none"
            cells += [f"{row['hbm_bytes'] / GIB:.2f}", f"{row['flops_per_device'] / 1e12:.3g}", moved]
            cells += [] if simple else [f"{1e3 * row['estimated_step_seconds']:.1f}", f"{row['estimated_mfu']:.3f}", row["bound_by"]]
        else:
            cells += ["does not fit" if row["status"] == "oom" else "failed", *["-"] * (len(names) - 1)]
        table.add_row(*cells)
    Console().print(table)
    for row in rows:
        if row["status"] == "oom":
            needs = f"needs {row['hbm_bytes'] / GIB:.2f} GiB, has {row['hbm_limit_bytes'] / GIB:.2f} GiB"
            print(f"{row['layout']}: {needs}; {told(row, fitting(rows))}")
        elif row["status"] == "error":
            print(f"{row['layout']}: {row['error']}")
        for warning in row["warnings"]:
            print(f"{row['layout']}: {warning}")
