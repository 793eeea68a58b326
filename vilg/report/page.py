"""The page of a finished run: scores, costs, pictures, captions and curves in one HTML file that
opens offline.

Separate from the run so that it only shows what it is handed: nothing is sampled, scored or
measured here. Every share comes from the report (the same dict that becomes report.json); what the
page looks like is in page.html, its curves in curves.py."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vilg.data.scenes.captions import LANGUAGES, describe, parse
from vilg.data.scenes.scene import Scene
from vilg.report.curves import draw_curves
from vilg.report.templates import data_uri, template


@runtime_checkable
class Trial(Protocol):
    """What the page reads of an evals.scenes.Trial (evals lies above this package)."""

    @property
    def cell(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def scene(self) -> Scene: ...
    @property
    def language(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def image(self) -> np.ndarray: ...
    @property
    def right(self) -> bool: ...
    @property
    def parts(self) -> Mapping[str, bool]: ...


@dataclass(frozen=True)
class GeneratorView:
    """A generator's column: `name` is its key in report["scores"]; without caption trials it is
    shown as one that cannot caption.
    """

    name: str
    trials: Sequence[Trial]


@dataclass(frozen=True)
class Target:
    """What a score must reach and what is aimed at, as fractions."""

    required: float
    aim: float | None = None


# The quickstart's targets: by generator and key of its scores, the codec's under "codec/", all
# stages' CPU-seconds at most.
QUICKSTART = {
    "autoregressive/single_object": Target(0.75, 0.90),
    "autoregressive/two_objects": Target(0.40, 0.60),
    "autoregressive/captions_exact": Target(0.95),
    "diffusion/single_object": Target(0.70, 0.90),
    "diffusion/two_objects": Target(0.20, 0.45),
    "codec/two_objects": Target(0.99),
    "codec/codebook_usage": Target(0.60),
}
CPU_SECONDS = 2300.0
MEASURES = {
    "single_object": "Sample, one object: colour and shape right",
    "two_objects": "Sample, two objects: everything right",
    "captions_exact": "Caption exactly right, one object",
    "captions_exact_two": "Caption exactly right, two objects",
}
CODEC = {
    "two_objects": "Reconstruction of two objects: everything still right",
    "codebook_usage": "Codebook usage",
}
PAIRS = {"seen": "Seen colour–shape pairs", "held_out": "Held-out pairs, never seen in training"}
CELLS = {
    "single_object": "One object, seen pairs",
    "two_objects": "Two objects, seen pairs",
    "held_out_single": "One object, held-out pair",
    "held_out_two": "Two objects, held-out pairs",
}
PARTS = {
    "readable": "can be read",
    "count": "number of objects",
    "colour": "colours",
    "shape": "shapes",
    "colour_and_shape": "colour on the right shape",
    "size": "sizes",
    "relation": "relation",
    "everything": "everything",
}

EMPTY = {
    "scores": {},
    "codec": {},
    "seconds": {},
    "cpu_seconds": {},
    "parameters": {},
    "versions": {},
    "commit": "unknown",
    "snapped": False,
}


def write_page(
    directory: str | Path,
    report: Mapping[str, Any],
    *,
    title: str,
    intro: str,
    generators: Sequence[GeneratorView],
    reconstructions: tuple[np.ndarray, np.ndarray] | None = None,
    curves: Mapping[str, Sequence[Mapping]] | None = None,
    targets: Mapping[str, Target] = QUICKSTART,
    cpu_limit: float | None = CPU_SECONDS,
    withheld: float = 0.1,
    config: Mapping[str, Any] | None = None,
    first: int = 12,
    first_captions: int = 6,
    failures: int = 4,
) -> Path:
    """Writes DIRECTORY/index.html and returns its path.

    `report` is what becomes report.json; its scores (and `codec`) may hold `n` and `ci95`, and
    `parameters` {part: count} is shown if it is there. `intro` says in plain text what was run;
    that centres are snapped and what the test is, the page says itself. Of every cell of trials the
    `first` are shown in the order in which they were drawn, then `failures` more that are wrong,
    marked as chosen (of captions `first_captions`, and half as many wrong ones). `reconstructions`
    are (originals, reconstructions), uint8 [n, H, W, 3]; `curves` is stage -> lines of
    metrics.jsonl."""
    report = EMPTY | dict(report)
    scores, cpu = report["scores"], report["cpu_seconds"]
    captioners = [g for g in generators if any(t.kind == "caption" for t in g.trials)]
    page = template("page.html").render(
        title=title,
        intro=intro,
        report=report,
        names=[g.name for g in generators],
        withheld=withheld,
        score_groups=[(PAIRS[p], _score_rows(scores, generators, p, targets)) for p in PAIRS],
        codec_rows=_codec_rows(report["codec"], targets),
        languages=LANGUAGES,
        language_groups=[(PAIRS[p], _language_rows(scores, generators, p)) for p in PAIRS],
        part_tables=[
            (g.name, _part_table(scores.get(g.name, {}).get("parts", {}))) for g in generators
        ],
        cpu_limit=cpu_limit,
        stages=list(dict.fromkeys([*report["seconds"], *cpu])),
        reconstructions=(
            [(data_uri(a), data_uri(b)) for a, b in zip(*reconstructions, strict=True)]
            if reconstructions is not None
            else []
        ),
        sample_cells=_cells(generators, "sample", first, failures),
        captioners=[g.name for g in captioners],
        caption_cells=_cells(captioners, "caption", first_captions, failures // 2),
        curves=draw_curves(curves or {}, cpu),
        config=json.dumps(config, indent=1, ensure_ascii=False, default=str) if config else "",
    )
    path = Path(directory) / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _entry(
    scores: Mapping[str, Any], pairs: str, key: str, target: Target | None = None
) -> dict[str, Any] | None:
    """A share with its interval, n and verdict; None where it was not measured."""

    def at(tree: Mapping[str, Any]) -> Any:
        return (tree.get("held_out", {}) if pairs == "held_out" else tree).get(key)

    value = at(scores)
    if value is None:
        return None
    state = ""
    if target is not None:
        met = value >= target.required
        state = (
            "not met"
            if not met
            else (
                "met"
                if target.aim is None
                else "aim met"
                if value >= target.aim
                else "required met, aim not"
            )
        )
    return {
        "value": value,
        "interval": at(scores.get("ci95", {})),
        "n": at(scores.get("n", {})),
        "state": state,
        "target": target,
    }


def _score_rows(
    scores: Mapping[str, Any],
    generators: Sequence[GeneratorView],
    pairs: str,
    targets: Mapping[str, Target],
) -> list[dict]:
    rows = []
    for key, label in MEASURES.items():
        goals = [targets.get(f"{g.name}/{key}") if pairs == "seen" else None for g in generators]
        cells = [
            _entry(scores.get(g.name, {}), pairs, key, goal)
            for g, goal in zip(generators, goals, strict=True)
        ]
        if any(cells):
            rows.append({"label": label, "targets": [g for g in goals if g], "cells": cells})
    return rows


def _codec_rows(codec: Mapping[str, Any], targets: Mapping[str, Target]) -> list[dict]:
    rows = []
    for key, label in CODEC.items():
        target = targets.get(f"codec/{key}")
        entry = _entry(codec, "seen", key, target)
        if entry:
            rows.append({"label": label, "targets": [target] if target else [], "cells": [entry]})
    return rows


def _language_rows(
    scores: Mapping[str, Any], generators: Sequence[GeneratorView], pairs: str
) -> list[dict]:
    rows = []
    for key, label in MEASURES.items():
        by = [scores.get(g.name, {}).get("by_language", {}) for g in generators]
        cells = [_entry(b.get(language, {}), pairs, key) for b in by for language in LANGUAGES]
        if any(cells):
            rows.append({"label": label, "targets": [], "cells": cells})
    return rows


def _part_table(parts: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    cells = [c for c in CELLS if c in parts]
    shown = [p for p in PARTS if any(p in parts[c] for c in cells)]
    rows = [
        (PARTS[p], [None if p == "relation" and "two" not in c else parts[c].get(p) for c in cells])
        for p in shown
    ]
    return {"columns": [CELLS[c] for c in cells], "rows": rows}


def _cells(
    generators: Sequence[GeneratorView], kind: str, first: int, failures: int
) -> list[dict[str, Any]]:
    """For every cell its cards: a scene and language with an answer of each generator, matched by
    what was asked.
    """
    cards: dict[str, dict[Any, dict[str, Any]]] = {}
    for place, generator in enumerate(generators):
        seen: Counter = Counter()
        for trial in generator.trials:
            if trial.kind != kind:
                continue
            asked = (trial.language, trial.scene, trial.prompt if kind == "sample" else "")
            seen[trial.cell, asked] += 1  # the same prompt drawn twice is two cards
            key = (asked, seen[trial.cell, asked])
            card = cards.setdefault(trial.cell, {}).setdefault(
                key, {"trial": trial, "answers": [None] * len(generators)}
            )
            card["answers"][place] = trial
    out = []
    for cell, group in cards.items():
        every = list(group.values())
        wrong = [
            c for c in every[first:] if any(t is not None and not t.right for t in c["answers"])
        ]
        right = [
            sum(1 for c in every if c["answers"][i] is not None and c["answers"][i].right)
            for i in range(len(generators))
        ]
        out.append(
            {
                "label": CELLS.get(cell, cell),
                "total": len(every),
                "right": [(g.name, n) for g, n in zip(generators, right, strict=True)],
                "first": [_card(c, generators) for c in every[:first]],
                "wrong": [_card(c, generators) for c in wrong[:failures]],
            }
        )
    return out


def _card(card: Mapping[str, Any], generators: Iterable[GeneratorView]) -> dict[str, Any]:
    trial: Trial = card["trial"]
    others = [(g, describe(trial.scene, g).text) for g in LANGUAGES if g != trial.language]
    answers = []
    for generator, t in zip(generators, card["answers"], strict=True):
        if t is None:
            answers.append({"name": generator.name, "missing": True})
            continue
        fault = (
            _sample_fault(t.parts, t.right)
            if t.kind == "sample"
            else ""
            if t.right
            else _caption_fault(t.prompt, t.scene, t.language)
        )
        answers.append(
            {
                "name": generator.name,
                "missing": False,
                "image": data_uri(t.image),
                "text": t.prompt,
                "right": t.right,
                "fault": fault,
            }
        )
    return {
        "language": trial.language,
        "prompt": trial.prompt,
        "others": others,
        "truth": describe(trial.scene, trial.language).text,
        "image": data_uri(trial.image),
        "answers": answers,
    }


def _sample_fault(parts: Mapping[str, bool], right: bool) -> str:
    """What of the prompt the sample does not show; a right one may still miss what its cell does
    not ask for (the size).
    """
    if parts.get("readable") is False:
        return "cannot be read"
    simple = ("count", "colour", "shape", "size", "relation")
    faults = [p for p in simple if parts.get(p) is False]
    if not faults and not right:
        return "mixed up between objects" if parts else ""
    if "count" in faults:
        return "number of objects"
    if parts.get("colour_and_shape") is False and not {"colour", "shape"} & set(faults):
        faults.insert(0, "colours swapped")
    return ", ".join(faults)


def _caption_fault(text: str, scene: Scene, language: str) -> str:
    """What a wrong caption gets wrong."""
    said = parse(text)
    if said is None:
        return "cannot be parsed"
    if said.language != language:
        return "other language"
    if said.count != len(scene.objects):
        return "number of objects"
    own = [o.attributes for o in (scene.objects[:1] if scene.group else scene.objects)]
    columns = zip(
        ("size", "colour", "shape"),
        zip(*own, strict=True),
        zip(*said.objects, strict=True),
        strict=True,
    )
    faults = [name for name, true, told in columns if Counter(true) != Counter(told)]
    if faults:
        return ", ".join(faults)
    return "relation" if Counter(own) == Counter(said.objects) else "mixed up between objects"
