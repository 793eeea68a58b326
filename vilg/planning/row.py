"""One row of a plan: a program compiled under one layout for one topology, and its figures.

Separate from run/plan.py, the verb, which compiles many rows in processes of their own."""

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vilg.experiment import build_experiment
from vilg.planning.advice import first_that_fits
from vilg.planning.compilation import Compiled, cache_file, compile_kept
from vilg.planning.measures import measures
from vilg.planning.programs import PROGRAMS, PlannedProgram
from vilg.planning.topology import parse_topology
from vilg.program import Program
from vilg.types import UserError

MEASURED = (
    "hbm_bytes hbm host_bytes flops_per_device model_flops_per_device collective_bytes"
    " collectives estimated_step_seconds mfu estimated_mfu tokens_per_second_per_chip"
    " images_per_second_per_chip sharded_fraction bound_by"
).split()
Row = dict[str, Any]  # a JSON object


@dataclasses.dataclass(frozen=True)
class Task:
    """What is compiled under every layout: plain values, because a task goes to other processes.

    `hlo`: the directory that keeps the optimized programs as text; `advice`: whether options are
    tried with which a program would fit that does not."""

    config: dict[str, Any]
    topology: str
    program: str = "train"
    hlo: str | None = None
    advice: bool = True


def empty_row(layout: str, task: Task) -> Row:
    """A row of which nothing is known yet."""
    topology = parse_topology(task.topology)
    return {
        "rank": None,
        "layout": layout,
        "topology": task.topology,
        "program": task.program,
        "devices": topology.size,
        "mesh": None,
        "batch": task.config["training"]["batch_size"],
        "status": "error",
        "error": None,
        **dict.fromkeys(MEASURED),
        "hbm_limit_bytes": topology.chip.hbm / topology.chip.devices,
        "compile_seconds": 0.0,
        "cached": False,
        "mistake": False,
        "warnings": [],
    }


def row_of(task: Task, layout: str) -> Row:
    """The row of one layout. A failure is a row too, whatever the compiler raises."""
    row, began = empty_row(layout, task), time.monotonic()
    topology = parse_topology(task.topology)
    try:
        program, planned, compiled = compile_layout(task, task.config, layout)
        row |= {
            "mesh": program.sizes,
            "sharded_fraction": program.sharded_fraction,
            "model_flops_per_device": planned.model_flops / topology.size,
            "cached": compiled.cached,
            "warnings": list(compiled.warnings),
        }
        if compiled.oom:
            row |= {
                "status": "oom",
                "hbm_bytes": compiled.oom["needs"],
                "hbm_limit_bytes": compiled.oom["has"],
            }
        else:
            row |= measures(program, planned, compiled, topology)
            if task.hlo:
                write_hlo(Path(task.hlo), layout, compiled.text)
        if row["status"] == "oom" and task.advice:
            say(layout, "does not fit; compiling with options that need less memory")
            row |= first_that_fits(
                task.config,
                task.program,
                lambda config: compile_layout(task, config, layout)[2].bytes_needed,
                row["hbm_limit_bytes"],
            )
    except UserError as error:
        row |= {"status": "error", "error": str(error), "mistake": True}
    except Exception as error:
        message = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        row |= {"status": "error", "error": message[:300]}
    row["compile_seconds"] = time.monotonic() - began
    return row


def compile_layout(
    task: Task, config: Mapping[str, object], layout: str
) -> tuple[Program, PlannedProgram, Compiled]:
    """A config's program under a layout, and what the compiler makes of it. A line on standard
    error says when the program is lowered.
    """
    began = time.monotonic()
    topology = parse_topology(task.topology)
    program = Program(build_experiment({**config, "layout": {"name": layout}}), topology.devices())
    planned = PROGRAMS[task.program](program)
    lowered = planned.lower()
    say(layout, f"lowered after {time.monotonic() - began:.0f} s, compiling")
    compiled = compile_kept(lowered, cache_file(lowered, topology), topology.generation != "cpu")
    return program, planned, compiled


def say(layout: str, text: str) -> None:
    """A line on standard error about a layout that is being compiled."""
    print(f"{layout}: {text}", file=sys.stderr, flush=True)


def write_hlo(folder: Path, layout: str, text: str) -> None:
    """Writes an optimized program into a file named by its layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{layout.replace(':', '_').replace('=', '')}.txt").write_text(text)
