"""Training curves as SVG that takes its colours from the page around it, so that one drawing serves
light and dark pages. training/log.py reads metrics.jsonl."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

# Panel -> the scalars that it shows, by their names in metrics.jsonl (a scalar of validation has a
# prefix), with their names in the legend.
PANELS: dict[str, dict[str, str]] = {
    "loss": {"loss": "loss", "text_to_image": "text to image", "image_to_text": "image to text"},
    "PSNR, dB": {"psnr": "PSNR"},
    "codebook usage": {"codebook_usage": "usage"},
    "scores": {
        "single_object": "one object",
        "two_objects": "two objects",
        "captions_exact": "captions, one object",
    },
}
LINES = ("#2f6fde", "#d9730d", "#2b9348", "#a23bb5")  # legible on white and on near-black
INK, FAINT = "#010203", "#040506"  # placeholders, which _adopt replaces by the page's colours
POINTS = 300  # of a curve; more are averaged in groups

Series = Mapping[str, tuple[np.ndarray, np.ndarray]]  # label -> (x, y)


@dataclass(frozen=True)
class Curve:
    """One drawing."""

    title: str
    svg: str  # an <svg> element that refers to no address
    says: str  # the first and the last value of each line, in words


def draw_curves(
    curves: Mapping[str, Sequence[Mapping[str, object]]], cpu_seconds: Mapping[str, float]
) -> list[Curve]:
    """Draws each run's lines of metrics.jsonl (as `read_metrics` gives them): every panel against
    steps, and the loss also against time.

    Time is the run's CPU-seconds where `cpu_seconds[name]` is known, distributed over the steps by
    their wall time, else wall seconds."""
    drawn = []
    for name, lines in curves.items():
        for panel, scalars in PANELS.items():
            series = _series(lines, scalars)
            if all(len(x) < 2 for x, _ in series.values()):
                continue
            drawn.append(draw(f"{name}: {panel}", panel, "step", series))
            if panel == "loss":
                axis, clock = _clock(lines, cpu_seconds.get(name))
                timed = {label: (np.interp(x, *clock), y) for label, (x, y) in series.items()}
                if len(clock[0]) > 1:
                    drawn.append(draw(f"{name}: {panel}", panel, axis, timed))
    return drawn


def _series(lines: Sequence[Mapping[str, Any]], scalars: Mapping[str, str]) -> Series:
    """Label -> (steps, values), thinned; training and validation have a label each."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for key in sorted(
        {k for line in lines for k in line},
        key=lambda k: (list(scalars).index(_last(k)) if _last(k) in scalars else 0, k),
    ):
        if _last(key) not in scalars or "held_out" in key or "by_language" in key:
            continue
        points = [
            (line["step"], line[key]) for line in lines if isinstance(line.get(key), int | float)
        ]
        values = np.array([p for p in points if np.isfinite(p[1])], float).reshape(-1, 2)
        prefix = "" if "/" not in key else f" ({key.split('/')[0]})"
        if len(values):
            found[scalars[_last(key)] + prefix] = _thin(values)
    return found


def _last(key: str) -> str:
    """The last part of a scalar's name."""
    return key.rsplit("/", 1)[-1]


def _thin(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The x and y of points [n, 2], averaged in groups where there are more than POINTS."""
    parts = np.array_split(points, min(len(points), POINTS))
    means = np.array([part.mean(0) for part in parts])
    return means[:, 0], means[:, 1]


def _clock(
    lines: Sequence[Mapping[str, object]], cpu: float | None
) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """The name of the axis of time, and (steps, seconds passed)."""
    timed = [line for line in lines if line.get("step_seconds") is not None]
    steps = np.array([line["step"] for line in timed], float)
    passed = np.cumsum(
        np.diff(steps, prepend=0) * np.array([line["step_seconds"] for line in timed], float)
    )
    if cpu is None or not len(passed):
        return "wall seconds", (steps, passed)
    return "CPU-seconds", (steps, passed * cpu / passed[-1])


STYLE: dict[str, str | float] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
}


def draw(title: str, panel: str, axis: str, series: Series, log: bool = False) -> Curve:
    """Draws lines against the quantity that `axis` names, which is in powers of ten with `log`."""
    style: dict[Any, Any] = {**STYLE, "svg.hashsalt": f"{title}/{axis}"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for colour, (label, (x, y)) in zip(LINES * len(series), series.items(), strict=False):
            axes.plot(
                x,
                y,
                color=colour,
                lw=1.5,
                ls="--" if label.endswith(")") else "-",  # dashed: validation
                marker="o" if len(x) < 12 else "",
                ms=3.5,
                label=label,
            )
        _scale(axes, panel, np.concatenate([y for _, y in series.values()]), log)
        axes.set_xlabel(axis)
        axes.set_ylabel(panel)
        axes.grid(True)
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=9)
        out = io.StringIO()
        figure.savefig(
            out,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    ends = ", ".join(f"{label} {y[0]:.3g} to {y[-1]:.3g}" for label, (_, y) in series.items())
    title = f"{title} against {axis}"
    return Curve(title, _adopt(out.getvalue(), f"{title}: {ends}"), ends)


def _scale(axes: Axes, panel: str, values: np.ndarray, log: bool) -> None:
    """Sets the scales of both axes: a loss over a wide range is logarithmic, shares go to 1."""
    if panel == "loss" and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if panel in ("scores", "codebook usage"):
        axes.set_ylim(0, 1.02)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(left=0)


def _adopt(svg: str, says: str) -> str:
    """The bare <svg> element with the page's colours and font, with the text `says` for screen
    readers, and without any address.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    # these ids are the same in every drawing, and nothing refers to them
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = svg.replace(INK, "var(--ink)").replace(FAINT, "var(--muted)")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(says)}"', 1).strip()
