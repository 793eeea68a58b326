"""The table of `vilg sweep`: means over seeds with their intervals, and differences from
controls.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from vilg.metrics.intervals import interval, t_interval
from vilg.workdir.ablation import Ablation

Summary = dict[str, dict[str, dict[str, Any]]]  # cell -> metric -> mean, intervals


def summarize(rows: Sequence[Mapping[str, Any]], ablation: Ablation) -> Summary:
    """Of each cell's metrics: the mean over seeds and its 95 % t-interval; of shares whose trials
    are counted (A/n/B beside A/B) also the Wilson interval of all trials together; with a control
    the mean difference from it over the seeds that both have."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    trials: dict[tuple[str, str], float] = {}
    for row in rows:
        for metric in ablation.metrics if not row["failed"] else ():
            if metric not in row["metrics"]:
                continue
            found.setdefault(row["cell"], {}).setdefault(metric, {})[row["seed"]] = row["metrics"][
                metric
            ]
            evaluator, _, name = metric.rpartition("/")
            trials[row["cell"], metric] = trials.get((row["cell"], metric), 0) + row["metrics"].get(
                f"{evaluator}/n/{name}", 0
            )
    summary: Summary = {cell: {} for cell in dict.fromkeys(row["cell"] for row in rows)}
    for cell, metrics in found.items():
        for metric, values in metrics.items():
            n, mean = int(trials[cell, metric]), float(np.mean(list(values.values())))
            entry = {
                "mean": mean,
                "values": list(values.values()),
                "t95": t_interval(list(values.values())),
            }
            entry |= {
                "trials": n,
                "wilson95": [round(x, 4) for x in interval(mean, n)] if n else None,
            }
            other = found.get(ablation.controls.get(cell, ""), {}).get(metric, {})
            paired = [value - other[seed] for seed, value in values.items() if seed in other]
            if paired:
                entry["difference"] = {
                    "control": ablation.controls[cell],
                    "mean": float(np.mean(paired)),
                    "t95": t_interval(paired),
                }
            summary[cell][metric] = entry
    return summary


def shown(summary: Summary, metrics: Mapping[str, str]) -> dict[str, str]:
    """The metrics that any cell has."""
    return {
        metric: title
        for metric, title in metrics.items()
        if any(metric in cell for cell in summary.values())
    }


def headline(row: Mapping[str, Any], metrics: Mapping[str, str]) -> str:
    """A row's main metrics in a line."""
    figures = [
        f"{title} {row['metrics'][metric]:.3f}"
        for metric, title in metrics.items()
        if metric in row["metrics"]
    ]
    return ", ".join([*figures, f"{row['cpu_seconds']:.0f} CPU-seconds"])


def show(summary: Summary, ablation: Ablation) -> None:
    """The tables for people."""
    metrics = shown(summary, ablation.metrics)
    for title, cells in (ablation.tables or {"": list(summary)}).items():
        caption = "mean [95 %: Wilson of counted trials, else t over seeds]"
        caption += "; below it the difference from the control" if ablation.controls else ""
        table = Table(
            Column("cell", no_wrap=True), *metrics.values(), title=title or None, caption=caption
        )
        for cell in cells:
            if cell in summary:
                table.add_row(cell, *(figure(summary[cell].get(metric)) for metric in metrics))
        Console().print(table)


def figure(entry: Mapping[str, Any] | None) -> str:
    """A table's cell."""
    if entry is None:
        return "-"
    limits = entry["wilson95"] or entry["t95"]
    text = f"{entry['mean']:.3f}" + (f" [{limits[0]:.3f}, {limits[1]:.3f}]" if limits else "")
    if difference := entry.get("difference"):
        low_high = difference["t95"]
        text += f"\n{difference['mean']:+.3f}" + (
            f" [{low_high[0]:+.3f}, {low_high[1]:+.3f}]" if low_high else ""
        )
    return text
