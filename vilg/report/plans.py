"""The page of `vilg plan`, one HTML file that opens offline: for every layout a bar of a step's
time and a bar of memory, with the reasons beside them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vilg.report.templates import template

GIB = 2**30
TIME = (("compute", "compute"), ("synchronous", "communication that waits"))
# kinds of work that overlap with each other in the "likely" estimate
OVERLAPPING = ("compute", "memory", "asynchronous", "host")
MEMORY = ("parameters", "optimizer", "activations", "temporaries", "rest")


def write_plan(
    path: str | Path, report: Mapping[str, Any], config: str, remedies: Sequence[str]
) -> None:
    """Writes the page of a plan's report, with a section for every topology; `remedies` has a
    sentence for each row ("" for none).
    """
    rows = [page_row(row, remedy) for row, remedy in zip(report["rows"], remedies, strict=True)]
    first = report["rows"][0]
    parts = [
        section([row for row in rows if row["topology"] == name])
        for name in dict.fromkeys(row["topology"] for row in rows)
    ]
    on = parts[0]["topology"] if len(parts) == 1 else f"{len(parts)} topologies"
    page = template("plans.html").render(
        title=f"{re.sub(r'^.*/', '', config)}: {first['program']} step on {on}",
        parts=parts,
        report=report,
        first=first,
        timed=any(part["timed"] for part in parts),
        time=TIME,
        memory=MEMORY,
        GIB=GIB,
    )
    Path(path).write_text(page, encoding="utf-8")


def section(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows of one topology, best first, and the scales of their bars."""
    fitting = [row for row in rows if row["status"] == "fits"]
    return {
        "topology": rows[0]["topology"],
        "devices": rows[0]["devices"],
        "limit": rows[0]["hbm_limit_bytes"],
        "rows": rows,
        "timed": not rows[0]["topology"].startswith("cpu"),
        "slowest": max((row["estimated_step_seconds"] for row in fitting), default=1.0),
        "fullest": max([row["hbm_bytes"] or 0 for row in rows] + [rows[0]["hbm_limit_bytes"]]),
    }


def page_row(row: Mapping[str, Any], remedy: str) -> dict[str, Any]:
    """A row of the report with the fields that the page adds: seconds by kind, collectives by mesh
    axis, the largest buffers, the mesh as text and the remedy.
    """
    moved = [
        {"axis": axis, "kind": kind, **numbers}
        for axis, kinds in (row["collectives"] or {}).items()
        for kind, numbers in kinds.items()
    ]
    added: dict[str, Any] = {
        "moved": sorted(moved, key=lambda m: -m["bytes"]),
        "remedy": remedy,
        "buffers": row.get("largest_buffers", []),
        "where": " × ".join(f"{axis} {size}" for axis, size in (row["mesh"] or {}).items()),
    }
    seconds = row.get("seconds")
    if seconds:
        slowest = max(seconds[name] for name in OVERLAPPING)
        added["parts"] = {"compute": slowest, "synchronous": seconds["synchronous"]}
    return {**row, **added}
