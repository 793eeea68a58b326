"""Training curves as SVG that takes its colours from the page around it, so that one drawing serves
light and dark.

Separate because only this needs matplotlib. Leaves reading metrics.jsonl to training/log.py.
"""

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

# Panel -> the scalars that it shows, as metrics.jsonl names them (a validation has a prefix), and
# how the legend names them.
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
LINES = ("#2f6fde", "#d9730d", "#2b9348", "#a23bb5")  # read on white and on near-black
INK, FAINT = "#010203", "#040506"  # stand for the page's own colours, see _adopt
POINTS = 300  # more lines than this are thinned to means


@dataclass(frozen=True)
class Curve:
    """One drawing: `svg` is an <svg> element without any address in it, `says` the same in
    words.
    """

    title: str
    svg: str
    says: str


def draw_curves(
    curves: Mapping[str, Sequence[Mapping]], cpu_seconds: Mapping[str, float]
) -> list[Curve]:
    """The drawings of each run's lines (as `read_metrics` gives them): every panel against steps,
    the loss against time as well.

    Time is the run's CPU-seconds (`cpu_seconds[name]`, shared out among the steps by their wall
    time) where they are known, else wall seconds."""
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


def _series(
    lines: Sequence[Mapping], scalars: Mapping[str, str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Label -> (steps, values), thinned; training and validation apart."""
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
        where = "" if "/" not in key else f" ({key.split('/')[0]})"
        if len(values):
            found[scalars[_last(key)] + where] = _thin(values)
    return found


def _last(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _thin(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = np.array_split(points, min(len(points), POINTS))
    means = np.array([part.mean(0) for part in parts])
    return means[:, 0], means[:, 1]


def _clock(
    lines: Sequence[Mapping], cpu: float | None
) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """The axis's name, and (steps, seconds passed)."""
    timed = [line for line in lines if line.get("step_seconds") is not None]
    steps = np.array([line["step"] for line in timed], float)
    passed = np.cumsum(
        np.diff(steps, prepend=0) * np.array([line["step_seconds"] for line in timed], float)
    )
    if cpu is None or not len(passed):
        return "wall seconds", (steps, passed)
    return "CPU-seconds", (steps, passed * cpu / passed[-1])


def draw(
    title: str,
    panel: str,
    axis: str,
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    log: bool = False,
) -> Curve:
    """One drawing of {label: (x, y)}; `log`: x in powers of ten."""
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"{title}/{axis}",
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
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        axes = figure.add_subplot()
        values = np.concatenate([y for _, y in series.values()])
        for colour, (label, (x, y)) in zip(LINES * len(series), series.items(), strict=False):
            dashed = label.endswith(")")
            axes.plot(
                x,
                y,
                color=colour,
                lw=1.5,
                ls="--" if dashed else "-",
                marker="o" if len(x) < 12 else "",
                ms=3.5,
                label=label,
            )
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
    return Curve(
        f"{title} against {axis}", _adopt(out.getvalue(), f"{title} against {axis}: {ends}"), ends
    )


def _adopt(svg: str, says: str) -> str:
    """The bare <svg> element with the page's colours and font, a name for screen readers, and
    nothing that looks like an address.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every drawing; nothing refers to them
    svg = svg.replace(INK, "var(--ink)").replace(FAINT, "var(--muted)")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(says)}"', 1).strip()
