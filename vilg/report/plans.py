"""The page of `vilg plan`: a bar of a step's time and one of memory for every layout, with the reasons beside them; opens offline."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vilg.report.templates import template

GIB = 2**30
TIME = (("compute", "compute"), ("synchronous", "communication that waits"))
MEMORY = ("parameters", "optimizer", "activations", "temporaries")


def write_plan(path: str | Path, report: Mapping[str, Any], config: str, remedies: Sequence[str]) -> None:
    """Writes the page of a plan's report; `remedies` has a sentence a row ("" for none)."""
    rows = [described(row, remedy) for row, remedy in zip(report["rows"], remedies, strict=True)]
    fitting = [row for row in rows if row["status"] == "fits"]
    first = report["rows"][0]
    page = template("plans.html").render(
        title=f"{re.sub(r'^.*/', '', config)}: {first['program']} step on {first['topology']}",
        rows=rows,
        report=report,
        first=first,
        timed=not first["topology"].startswith("cpu"),
        slowest=max((row["estimated_step_seconds"] for row in fitting), default=1.0),
        fullest=max([row["hbm_bytes"] or 0 for row in rows] + [first["hbm_limit_bytes"]]),
        time=TIME,
        memory=MEMORY,
        GIB=GIB,
    )
    Path(path).write_text(page, encoding="utf-8")


def described(row: Mapping[str, Any], remedy: str) -> dict[str, Any]:
    """A row with what the page shows of it: seconds by kind, what moves over which axis, largest buffers, notes."""
    moved = [
        {"axis": axis, "kind": kind, **numbers} for axis, kinds in (row["collectives"] or {}).items() for kind, numbers in kinds.items()
    ]
    told = dict(row)
    seconds = row.get("seconds")
    if seconds:
        hidden = max(seconds["compute"], seconds["memory"], seconds["asynchronous"])
        told["parts"] = {"compute": hidden, "synchronous": seconds["synchronous"]}
    told |= {"moved": sorted(moved, key=lambda m: -m["bytes"]), "remedy": remedy, "buffers": row.get("largest_buffers", [])}
    told["where"] = " × ".join(f"{axis} {size}" for axis, size in (row["mesh"] or {}).items())
    return told
