"""The page of `vilg compare`: one HTML file that opens offline, made of report.json and the
pictures beside it.

It compares contenders with each other, where page.py compares one run's scores with targets."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vilg.report.curves import Curve, draw
from vilg.report.templates import data_uri, template

CELLS = {
    "single_object": "one object",
    "two_objects": "two objects",
    "held_out_single": "one object, pair never seen",
    "held_out_two": "two objects, pairs never seen",
}
COSTS = {
    "flops": "FLOPs a picture",
    "evaluations": "network evaluations a picture",
    "image_seconds": "seconds a picture, on this machine",
}


def write_comparison(directory: str | Path, report: Mapping[str, Any]) -> Path:
    """Writes DIRECTORY/index.html and returns its path."""
    directory = Path(directory)
    names = list(report["metrics"])
    rows = [r | {"label": label(r["what"], r["part"])} for r in report["comparisons"]]
    page = template("comparison.html").render(
        title="vilg compare: " + " and ".join(names),
        names=names,
        report=report,
        answer=answer(rows),
        quality=quality(report, names),
        wins=[r for r in rows if r["language"] == "all" and not r["part"]],
        languages=[r for r in rows if r["language"] != "all"],
        parts=[r for r in rows if r["part"]],
        curves=curves(report["curves"]),
        cells=grids(directory, report["grid"]),
        costed=list(
            dict.fromkeys(
                c
                for points in report["curves"]["sampling"].values()
                for p in points
                for c in p["scores"]
            )
        ),
        label=label,
        manifest=json.dumps(report["protocol"], indent=1, ensure_ascii=False),
    )
    (directory / "index.html").write_text(page, encoding="utf-8")
    return directory / "index.html"


def label(cell: str, part: str = "") -> str:
    """The name of a cell, and of a part of it, on the page."""
    return CELLS.get(cell, cell) + (f": {part.replace('_', ' ')}" if part else "")


def answer(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The comparison in sentences, one for each cell and pair of contenders."""
    out = []
    for r in rows:
        if r["language"] == "all" and not r["part"]:
            verdict = {"better": f"{r['a']} is better", "worse": f"{r['b']} is better"}.get(
                r["verdict"], "no significant difference"
            )
            seeds = "; one training seed, so how much trainings vary is unknown"
            out.append(
                f"{label(r['what'])}: {verdict} ({r['a']} {r['score_a']:.3f}, {r['b']}"
                f" {r['score_b']:.3f}, p = {r['p_holm']:.4f}{'' if r['seeds'] > 1 else seeds})."
            )
    return out


def quality(report: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the score table: for each cell every contender's score with its interval, and the
    highest score that its codec allows.
    """
    rows = []
    for cell in dict.fromkeys(c for name in names for c in report["cells"][name]["ema"]):
        cells = []
        for name in names:
            kinds = report["cells"][name]
            entry = {"seeds": report["metrics"][name]["ema"]["seeds"], **kinds["ema"].get(cell, {})}
            entry["raw"] = kinds.get("raw", {}).get(cell, {}).get("score")
            cells.append(entry | {"ceiling": ceiling(report["ceiling"].get(name, {}), cell)})
        rows.append({"label": label(cell), "cells": cells})
    return rows


def ceiling(metrics: Mapping[str, Any], cell: str) -> float | None:
    """A cell's share of right pictures in the scores of the evaluator of scenes; None where it has
    no such cell.
    """
    for numbers in metrics.values():
        place = numbers.get("held_out", {}) if cell.startswith("held_out_") else numbers
        return place.get(
            {"held_out_single": "single_object", "held_out_two": "two_objects"}.get(cell, cell)
        )
    return None


def curves(points_of: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> list[Curve]:
    """Scores against training FLOPs, and against each cost of sampling.

    `points_of` maps "training" and "sampling" to contender -> points."""
    drawn = []
    axes = [
        ("training", "flops", "training FLOPs"),
        *(("sampling", cost, name) for cost, name in COSTS.items()),
    ]
    cells = dict.fromkeys(
        c for points in points_of["training"].values() for p in points for c in p["scores"]
    )
    for kind, field, axis in axes:
        for cell in cells:
            series = {}
            for name, points in points_of[kind].items():
                pairs = sorted((p[field], p["scores"][cell]) for p in points if cell in p["scores"])
                if pairs:
                    series[name] = (
                        np.array([x for x, _ in pairs], float),
                        np.array([y for _, y in pairs], float),
                    )
            if series:
                drawn.append(
                    draw(f"{label(cell)}, {kind}", "scores", axis, series, log=kind == "sampling")
                )
    return drawn


def grids(
    directory: Path, samples: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Cards of each cell: a prompt with the pictures of all contenders. `samples` maps a contender
    to the lines that name its pictures.
    """
    cells: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = {}
    for name, lines in samples.items():
        for line in lines:
            image = np.asarray(Image.open(directory / line["file"]).convert("RGB"))
            card = {"name": name, "image": data_uri(image), "score": line["score"]}
            cells.setdefault(line["cell"], {}).setdefault(
                (line["prompt"], line["language"]), []
            ).append(card)
    return [
        {
            "label": label(cell),
            "cards": [{"prompt": p, "language": g, "answers": a} for (p, g), a in prompts.items()],
        }
        for cell, prompts in cells.items()
    ]
