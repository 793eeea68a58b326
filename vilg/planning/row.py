"""One row of a plan: a program compiled under one layout for one topology, and what is said of it.

Separate from plan.py, the verb, which compiles many in processes of their own. Every failure is a
row too."""

import contextlib
import dataclasses
import gzip
import hashlib
import json
import math
import os
import re
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vilg.compiler.flags import COMPILED_WITH
from vilg.compiler.warnings import compiler_warnings
from vilg.experiment import build_experiment
from vilg.parallel.mesh import slice_places
from vilg.paths import cache_folder
from vilg.planning import costs as counting
from vilg.planning.advice import first_that_fits
from vilg.planning.estimate import estimate
from vilg.planning.hlo import parse
from vilg.planning.memory import Buffer, fullest
from vilg.planning.phases import PHASES
from vilg.planning.programs import PROGRAMS, Planned
from vilg.planning.topology import Topology, parse_topology
from vilg.program import HOST_MEMORY, Program
from vilg.types import UserError
from vilg.workdir.files import versions

FORMAT = 3  # of what is kept: a change of rows makes older ones useless
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
LARGEST = 8  # buffers that a row names


@dataclasses.dataclass(frozen=True)
class Task:
    """What is compiled under every layout; plain values, since it goes to other processes."""

    config: dict[str, Any]
    topology: str
    program: str = "train"
    hlo: str | None = None
    advice: bool = True


def compiler() -> dict[str, str]:
    """The version of libtpu, where it is installed."""
    from importlib import metadata

    try:
        return {"libtpu": metadata.version("libtpu")}
    except metadata.PackageNotFoundError:
        return {}


def blank(layout: str, task: Task) -> dict[str, Any]:
    """A row of which nothing is known yet."""
    topology = parse_topology(task.topology)
    names = (
        "error hbm_bytes hbm host_bytes flops_per_device model_flops_per_device collective_bytes"
        " collectives estimated_step_seconds mfu estimated_mfu tokens_per_second_per_chip"
        " images_per_second_per_chip sharded_fraction bound_by"
    )
    row: dict[str, Any] = {
        "rank": None,
        "layout": layout,
        "topology": task.topology,
        "program": task.program,
    }
    row |= {
        "devices": topology.size,
        "mesh": None,
        "batch": task.config["training"]["batch_size"],
        "status": "error",
    }
    row |= dict.fromkeys(names.split())
    row |= {
        "hbm_limit_bytes": topology.chip.hbm / topology.chip.devices,
        "compile_seconds": 0.0,
        "cached": False,
        "mistake": False,
        "warnings": [],
    }
    return row


def row_of(task: Task, layout: str) -> dict[str, Any]:
    """The row of one layout; every failure is a row too."""
    row, began = blank(layout, task), time.monotonic()
    topology = parse_topology(task.topology)
    try:
        program, planned, found = compiled(task, task.config, layout)
        row |= {"mesh": program.sizes, "sharded_fraction": program.sharded_fraction}
        row |= {
            "model_flops_per_device": planned.model_flops / topology.size,
            "cached": found["cached"],
            "warnings": found["warnings"],
        }
        if found["oom"]:
            row |= {
                "status": "oom",
                "hbm_bytes": found["oom"]["needs"],
                "hbm_limit_bytes": found["oom"]["has"],
            }
        else:
            row |= measured(program, planned, found, topology)
            if task.hlo:
                Path(task.hlo).mkdir(parents=True, exist_ok=True)
                (Path(task.hlo) / f"{layout.replace(':', '_').replace('=', '')}.txt").write_text(
                    found["text"]
                )
        if row["status"] == "oom" and task.advice:
            row |= first_that_fits(
                task.config,
                task.program,
                lambda c: bytes_needed(compiled(task, c, layout)[2]),
                row["hbm_limit_bytes"],
            )
    except UserError as error:
        row |= {"status": "error", "error": str(error), "mistake": True}
    except Exception as error:  # noqa: BLE001 - a layout that fails is a row, whatever the compiler says
        row |= {
            "status": "error",
            "error": ": ".join([type(error).__name__, *str(error).splitlines()[:1]])[:300],
        }
    row["compile_seconds"] = time.monotonic() - began
    return row


def compiled(
    task: Task, config: Mapping[str, Any], layout: str
) -> tuple[Program, Planned, dict[str, Any]]:
    """The program under a layout, what it is worth, and what the compiler says (compiled_text)."""
    topology = parse_topology(task.topology)
    program = Program(build_experiment({**config, "layout": {"name": layout}}), topology.devices())
    planned = PROGRAMS[task.program](program)
    lowered = planned.lower()
    return (
        program,
        planned,
        compiled_text(lowered, kept_at(lowered, topology), topology.generation != "cpu"),
    )


def bytes_needed(found: Mapping[str, Any]) -> float:
    """Bytes of a device's memory that a compiled program wants."""
    if found["oom"]:
        return found["oom"]["needs"]
    memory = found["memory"]
    return float(
        memory["argument"]
        + memory["output"]
        - memory["alias"]
        + memory["temp"]
        + memory["generated_code"]
    )


def assigned(report: Path) -> float | None:
    """Bytes of main memory that the compiler's buffer assignment takes, from the report that it
    dumps; None where there is none.

    What `memory_analysis` calls temporaries counts buffers twice that share memory: 103 GiB of a
    program that the compiler put into 84."""
    found = (
        re.search(r"Memory Space: default \(color=0\)\s+Total bytes: (\d+)", report.read_text())
        if report.is_file()
        else None
    )
    return float(found[1]) if found else None


def kept_at(lowered: Any, topology: Topology) -> Path:
    """Where the result of compiling this program for this topology is kept: by the program's own
    text and the compiler.
    """
    flags = {variable: os.environ.get(variable, "") for variable in COMPILED_WITH}
    content = [FORMAT, lowered.as_text(), str(topology), {**versions(), **compiler()}, flags]
    name = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    return cache_folder("plans") / f"{name}.json.gz"


def compiled_text(lowered: Any, place: Path, reported: bool) -> dict[str, Any]:
    """{"text", "memory", "oom", "warnings", "cached"} of the compiled program, from what is kept,
    else compiled now and kept; `reported`: the compiler is asked for its report of main memory."""
    with contextlib.suppress(
        OSError, EOFError, ValueError, zlib.error
    ):  # nothing kept, or cut short: compiled again
        return {**json.loads(gzip.decompress(place.read_bytes())), "cached": True}
    found: dict[str, Any] = {"text": "", "memory": {}, "oom": None, "warnings": []}
    try:
        with compiler_warnings() as found["warnings"], tempfile.TemporaryDirectory() as dump:
            compiled = lowered.compile(compiler_options={"xla_dump_to": dump} if reported else None)
            taken = next(
                (
                    size
                    for size in map(assigned, Path(dump).glob("*memory-usage-report.txt"))
                    if size
                ),
                None,
            )
        memory = compiled.memory_analysis()
        names = (
            "argument",
            "output",
            "alias",
            "temp",
            "generated_code",
            "host_argument",
            "host_output",
            "host_alias",
            "host_temp",
        )
        found["memory"] = {name: getattr(memory, f"{name}_size_in_bytes", 0) for name in names}
        if taken is not None:
            found["memory"]["temp"] = (
                taken
                - sum(found["memory"][n] for n in ("argument", "output"))
                + found["memory"]["alias"]
            )
        found["text"] = compiled.as_text()
    except Exception as error:  # the compiler's own error classes differ between releases
        found["oom"] = out_of_memory(str(error))
        if found["oom"] is None:
            raise
    warnings = list(found["warnings"])
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(gzip.compress(json.dumps(found).encode(), 5))
        temporary.replace(place)
    except OSError as error:
        warnings.append(f"the compiled result is not kept: {error}; VILG_CACHE names another place")
    return {**found, "warnings": warnings, "cached": False}


def out_of_memory(message: str) -> dict[str, float] | None:
    """{"needs", "has"} in bytes of a compiler's refusal for want of memory; None for any other
    error.
    """
    found = re.search(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm", message) or re.search(
        r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)", message
    )
    if not found:
        return None
    return {"needs": float(found[1]) * UNITS[found[2]], "has": float(found[3]) * UNITS[found[4]]}


def measured(
    program: Program, planned: Planned, found: Mapping[str, Any], topology: Topology
) -> dict[str, Any]:
    """What a row says of a program that was compiled."""
    module = parse(found["text"])
    costs = counting.count(module, program.sizes, slice_places(list(program.mesh.devices.flat)))
    table, alive = costs.table(), fullest(module)
    chip, memory = topology.chip, found["memory"]
    seconds = estimate(costs, topology, list(program.mesh.devices.flat))
    mfu = seconds.mfu(planned.model_flops / topology.size, chip)
    of_host = (
        memory["host_argument"] + memory["host_output"] - memory["host_alias"] + memory["host_temp"]
    )
    needed, limit = bytes_needed(found), chip.hbm / chip.devices
    warnings = [*found["warnings"], *costs.warnings]
    return {
        "status": "fits" if needed <= limit or topology.generation == "cpu" else "oom",
        "hbm_bytes": needed,
        "hbm_limit_bytes": limit,
        "hbm": split(planned, alive, float(memory["temp"]), needed),
        "largest_buffers": [vars(b) for b in alive[:LARGEST]],
        "host_bytes": max(
            bytes_of(planned.beside, HOST_MEMORY), float(of_host)
        ),  # fake devices' compiler keeps no account of it
        "flops_per_device": costs.total_flops,
        "flops_by_phase": dict(costs.flops),
        "collective_bytes": {
            axis: sum(kind["bytes"] for kind in kinds.values()) for axis, kinds in table.items()
        },
        "collectives": table,
        "collectives_by_phase": {
            phase: part for phase in PHASES if (part := costs.table(phase=phase))
        },
        "estimated_step_seconds": seconds.likely,
        "seconds": {
            "compute": seconds.compute,
            "memory": seconds.memory,
            "asynchronous": seconds.asynchronous,
            "synchronous": seconds.synchronous,
            "host": seconds.host,
        },
        "mfu": mfu,
        "estimated_mfu": mfu["likely"],
        "tokens_per_second_per_chip": (
            planned.tokens / seconds.likely / topology.chips if planned.tokens else None
        ),
        "images_per_second_per_chip": planned.images / seconds.likely / topology.chips,
        "bound_by": seconds.bound_by,
        "warnings": warnings,
    }


def split(
    planned: Planned, alive: Sequence[Buffer], temporary: float, needed: float
) -> dict[str, float]:
    """Bytes a device by what they hold. Activations: what the forward pass leaves for the backward
    pass when memory is fullest; rest: batch, frozen codec, results that take no argument's place,
    and code."""
    activations = min(temporary, sum(b.bytes for b in alive if b.phase == "forward"))
    held = {"parameters": bytes_of(planned.params), "optimizer": bytes_of(planned.beside)}
    held |= {"activations": activations, "temporaries": temporary - activations}
    return held | {"rest": max(0.0, needed - sum(held.values()))}


def bytes_of(tree: Any, kind: str = "device") -> float:
    """Bytes a device of abstract arrays that are in this kind of memory."""
    there = [
        x
        for x in jax.tree.leaves(tree)
        if x.sharding.memory_kind in (kind, *([None] if kind == "device" else []))
    ]
    return float(sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in there))
