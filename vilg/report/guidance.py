"""Quality against the scale of guidance as a PNG, drawn from the numbers that `vilg evaluate
--guidance` writes."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vilg.report.curves import LINES

# Panel -> the numbers that it shows, by their path in an evaluator's numbers, with their names in
# the legend.
PANELS: dict[str, dict[str, str]] = {
    "share right": {
        "single_object": "one object",
        "two_objects": "two objects",
        "held_out/single_object": "one, held out",
        "held_out/two_objects": "two, held out",
    },
    "own caption matched": {"zh/matched": "zh", "en/matched": "en"},
    "score of prompts": {
        "all/score": "all",
        "by_language/zh/score": "zh",
        "by_language/en/score": "en",
    },
    "distance of pictures": {
        "twins": "zh and en",
        "strangers": "strangers",
        "zh/to_truth": "zh to the original",
        "en/to_truth": "en to the original",
    },
}
SHARES = ("share right", "own caption matched")  # panels of numbers between 0 and 1


def draw_guidance(points: Sequence[Mapping[str, Any]], path: str | os.PathLike, title: str) -> None:
    """Writes a PNG with a panel for each kind of number, and 95 % intervals where they are known.

    A point holds "guidance" and "metrics" (evaluator -> its numbers); points come in any order."""
    points = sorted(points, key=lambda p: p["guidance"])
    panels = []
    for evaluator in points[0]["metrics"]:
        for panel, names in PANELS.items():
            found = {
                n: label
                for n, label in names.items()
                if find(points[0]["metrics"][evaluator], n) is not None
            }
            if found:
                panels.append((evaluator, panel, found))
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(4.6 * max(1, len(panels)), 3.4), layout="constrained")
        figure.suptitle(title)
        for k, (evaluator, panel, names) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), k + 1)
            for colour, (name, label) in zip(LINES, names.items(), strict=False):
                draw_line(axes, points, evaluator, name, label, colour)
            axes.set(title=evaluator, xlabel="guidance", ylabel=panel)
            if panel in SHARES:
                axes.set_ylim(0, 1.02)
            axes.grid(True, alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False)
        figure.savefig(path, format="png", dpi=150)


def draw_line(
    axes: Axes,
    points: Sequence[Mapping[str, Any]],
    evaluator: str,
    name: str,
    label: str,
    colour: str,
) -> None:
    """Draws one number against guidance, with its interval where every point has one."""
    x = [p["guidance"] for p in points]
    y = [cast(float, find(p["metrics"][evaluator], name)) for p in points]
    axes.plot(x, y, color=colour, lw=1.5, marker="o", ms=3.5, label=label)
    intervals = [interval for p in points if (interval := limits(p["metrics"][evaluator], name))]
    if len(intervals) == len(points):
        low, high = zip(*intervals, strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def find(metrics: object, name: str) -> object:
    """The value at path a/b of nested mappings, or None."""
    for key in name.split("/"):
        metrics = metrics.get(key) if isinstance(metrics, Mapping) else None
    return metrics


def limits(metrics: Mapping[str, object], name: str) -> Sequence[float] | None:
    """The 95 % interval that an evaluator gives beside a number, or None."""
    interval = find(metrics, f"ci95/{name}") or find(metrics, f"{name}_ci95")
    return cast("Sequence[float] | None", interval)
