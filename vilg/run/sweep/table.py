"""The table of `vilg sweep`: means over seeds with intervals, and differences from controls."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from vilg.metrics.intervals import interval, t_interval
from vilg.workdir.ablation import Ablation

Summary = dict[str, dict[str, dict[str, Any]]]  # cell -> metric -> mean, intervals


def summarize(rows: Sequence[Mapping[str, Any]], ablation: Ablation) -> Summary:
    """For each metric of each cell: the mean over seeds and its 95 % t-interval.

    For shares whose trials are counted (A/n/B beside A/B) the entry also has the Wilson interval of
    all trials together; for cells with a control, the mean difference from it over the seeds that
    both have."""
    by_seed: dict[str, dict[str, dict[int, float]]] = {}  # cell -> metric -> seed -> value
    trials: dict[tuple[str, str], float] = {}
    for row in rows:
        cell, numbers = row["cell"], row["metrics"]
        for metric in ablation.metrics if not row["failed"] else ():
            if metric not in numbers:
                continue
            by_seed.setdefault(cell, {}).setdefault(metric, {})[row["seed"]] = numbers[metric]
            evaluator, _, name = metric.rpartition("/")
            counted = numbers.get(f"{evaluator}/n/{name}", 0)
            trials[cell, metric] = trials.get((cell, metric), 0) + counted
    summary: Summary = {cell: {} for cell in dict.fromkeys(row["cell"] for row in rows)}
    for cell, metrics in by_seed.items():
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
            control = by_seed.get(ablation.controls.get(cell, ""), {}).get(metric, {})
            differences = [v - control[seed] for seed, v in values.items() if seed in control]
            if differences:
                entry["difference"] = {
                    "control": ablation.controls[cell],
                    "mean": float(np.mean(differences)),
                    "t95": t_interval(differences),
                }
            summary[cell][metric] = entry
    return summary


def shown(summary: Summary, metrics: Mapping[str, str]) -> dict[str, str]:
    """The metrics that at least one cell has."""
    return {
        metric: title
        for metric, title in metrics.items()
        if any(metric in cell for cell in summary.values())
    }


def headline(row: Mapping[str, Any], metrics: Mapping[str, str]) -> str:
    """A row's main metrics in one line."""
    figures = [
        f"{title} {row['metrics'][metric]:.3f}"
        for metric, title in metrics.items()
        if metric in row["metrics"]
    ]
    return ", ".join([*figures, f"{row['cpu_seconds']:.0f} CPU-seconds"])


def show(summary: Summary, ablation: Ablation) -> None:
    """Prints the tables."""
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
    """The text of one cell of a table: the mean with its interval, and the difference from the
    control."""
    if entry is None:
        return "-"
    limits = entry["wilson95"] or entry["t95"]
    text = f"{entry['mean']:.3f}" + (f" [{limits[0]:.3f}, {limits[1]:.3f}]" if limits else "")
    if difference := entry.get("difference"):
        limits = difference["t95"]
        text += f"\n{difference['mean']:+.3f}"
        text += f" [{limits[0]:+.3f}, {limits[1]:+.3f}]" if limits else ""
    return text
