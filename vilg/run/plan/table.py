"""The rows of a plan for people: their ranks, and a table with the reasons below it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from vilg.planning.advice import remedy
from vilg.planning.chips import GIB
from vilg.planning.row import Row
from vilg.planning.topology import Topology

STATUSES = ("fits", "oom", "error")  # in the order of the table


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The rows with their ranks: those that fit by estimated step, then those that do not fit by
    bytes, then those that failed.
    """

    def key(row: Row) -> tuple[int, float, str]:
        figure = row["estimated_step_seconds"] if row["status"] == "fits" else row["hbm_bytes"]
        return STATUSES.index(row["status"]), float(figure or 0), row["layout"]

    return [{**row, "rank": k + 1} for k, row in enumerate(sorted(rows, key=key))]


def best_layout(rows: Sequence[Mapping[str, Any]], topology: str) -> str:
    """The best layout that fits on a topology, "" where none does."""
    fitting = (r["layout"] for r in rows if r["status"] == "fits" and r["topology"] == topology)
    return next(fitting, "")


def show(rows: Sequence[Mapping[str, Any]], topology: Topology) -> None:
    """Prints the table of one topology, and below it what is to be said about single layouts."""
    timed = topology.generation != "cpu"
    names = ("GiB", "TFLOP", "GB moved", *(("ms", "MFU", "bound by") if timed else ()))
    caption = "best first; of one device; moved: whole arrays in collectives, loops multiplied out"
    table = Table(
        Column("layout, mesh"),
        *(Column(name, justify="right", no_wrap=name != "bound by") for name in names),
        title=(
            f"{rows[0]['program']} step, batch {rows[0]['batch']}, {topology.chips} chips"
            f" ({topology})"
        ),
        caption=caption + ("; times and MFU are XLA-estimated, never measured" if timed else ""),
    )
    for row in rows:
        mesh = "x".join(map(str, (row["mesh"] or {}).values()))
        table.add_row(f"{row['layout']} {mesh}", *cells(row, len(names), timed))
    Console().print(table)
    for row in rows:
        for line in notes(row, best_layout(rows, str(topology))):
            print(f"{row['layout']}: {line}")


def cells(row: Mapping[str, Any], columns: int, timed: bool) -> list[str]:
    """A row's cells beside its name."""
    if row["status"] != "fits":
        status = "does not fit" if row["status"] == "oom" else "failed"
        return [status, *["-"] * (columns - 1)]
    figures = [
        f"{row['hbm_bytes'] / GIB:.2f}",
        f"{row['flops_per_device'] / 1e12:.3g}",
        f"{sum(row['collective_bytes'].values()) / 1e9:.3g}",
    ]
    if timed:
        milliseconds = 1e3 * row["estimated_step_seconds"]
        figures += [f"{milliseconds:.1f}", f"{row['estimated_mfu']:.3f}", row["bound_by"]]
    return figures


def notes(row: Mapping[str, Any], best: str) -> list[str]:
    """The sentences on a row: bytes by mesh axis, why it does not fit and what would, warnings."""
    said = []
    if row["status"] == "fits" and len(row["collective_bytes"]) > 1:
        sizes = [f"{b / 1e9:.3g} GB over {axis}" for axis, b in row["collective_bytes"].items()]
        said.append(f"moves {', '.join(sizes)}")
    if row["status"] == "oom":
        needs, has = row["hbm_bytes"] / GIB, row["hbm_limit_bytes"] / GIB
        said.append(f"needs {needs:.2f} GiB, has {has:.2f} GiB; {remedy(row, best)}")
    if row["status"] == "error":
        said.append(str(row["error"]))
    return [*said, *row["warnings"]]
