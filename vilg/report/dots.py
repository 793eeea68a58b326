"""Dot plots of an ablation: a row a cell, a panel a metric, with the mean, its interval and the
values of single seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

MEAN, SEED, GRID = "#2f6fde", "#9aa5b1", "#e3e7eb"


def draw_dots(
    path: str | Path,
    summary: Mapping[str, Mapping[str, Mapping[str, object]]],
    metrics: Mapping[str, str],
    groups: Mapping[str, Sequence[str]],
) -> None:
    """Writes a PNG.

    `summary` maps cell -> metric -> {"mean", "values", "wilson95" or "t95"}, `metrics` a metric to
    its title, and `groups` a title to its cells; cells that are not in the summary are left out."""
    groups = {title: [cell for cell in cells if cell in summary] for title, cells in groups.items()}
    groups = {title: cells for title, cells in groups.items() if cells}
    if not groups or not metrics:
        return
    heights = [len(cells) for cells in groups.values()]
    shape = (2.2 + 2.6 * len(metrics), 0.9 * len(heights) + 0.32 * sum(heights))
    figure = Figure(figsize=shape, layout="constrained")
    axes = figure.subplots(
        len(groups), len(metrics), sharey="row", sharex="col", squeeze=False, height_ratios=heights
    )
    for row, (title, cells) in zip(axes, groups.items(), strict=True):
        for axis, (metric, name) in zip(row, metrics.items(), strict=True):
            _panel(axis, [summary[cell].get(metric) for cell in cells])
            axis.set_xlabel(name)
        row[0].set_yticks(range(len(cells)), cells)
        row[0].set_ylim(len(cells) - 0.5, -0.5)
        row[0].set_title(title, loc="left", fontsize="medium")
    figure.savefig(path, dpi=150)


def _panel(axis: Axes, entries: Sequence[Mapping[str, Any] | None]) -> None:
    """One metric of some cells; a cell whose runs failed has no dot."""
    for y, entry in enumerate(entries):
        if entry is None:
            continue
        limits = entry["wilson95"] or entry["t95"]
        if limits:
            axis.plot(limits, [y, y], color=MEAN, linewidth=1.5, solid_capstyle="butt")
        axis.plot(entry["values"], [y] * len(entry["values"]), "o", color=SEED, markersize=3)
        axis.plot([entry["mean"]], [y], "o", color=MEAN, markersize=6)
    axis.grid(axis="x", color=GRID)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
