"""The page of a finished run: scores, costs, pictures, captions and curves in one HTML file that
opens offline.

The page shows only what its caller hands over: nothing is sampled, scored or measured here. Every
share comes from the report, the same dict that becomes report.json. score_tables.py makes the
tables, trial_cards.py the pictures with their prompts, curves.py the curves; page.html is the
layout."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vilg.data.scenes.captions import LANGUAGES
from vilg.report.curves import draw_curves
from vilg.report.score_tables import (
    PAIRS,
    Target,
    codec_rows,
    language_rows,
    part_table,
    score_rows,
)
from vilg.report.templates import data_uri, template
from vilg.report.trial_cards import GeneratorView, cell_cards

# The quickstart's targets. A key is a generator (or "codec") and the key of a score.
QUICKSTART = {
    "autoregressive/single_object": Target(0.75, 0.90),
    "autoregressive/two_objects": Target(0.40, 0.60),
    "autoregressive/captions_exact": Target(0.95),
    "diffusion/single_object": Target(0.70, 0.90),
    "diffusion/two_objects": Target(0.20, 0.45),
    "codec/two_objects": Target(0.99),
    "codec/codebook_usage": Target(0.60),
}
CPU_SECONDS = 2300.0  # what the quickstart's stages may take together
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
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    targets: Mapping[str, Target] = QUICKSTART,
    cpu_limit: float | None = CPU_SECONDS,
    withheld: float = 0.1,
    config: Mapping[str, Any] | None = None,
    shown: int = 12,
    shown_captions: int = 6,
    failures: int = 4,
) -> Path:
    """Writes DIRECTORY/index.html and returns its path.

    `report` becomes report.json; its scores (and `codec`) may hold `n` and `ci95`, and `parameters`
    {part: count} is shown if it is there. `intro` says in plain text what was run; the page itself
    says what the test is, and that centres are snapped. Of every cell of trials the first `shown`
    are shown in the order in which they were drawn, then `failures` more that are wrong, marked as
    chosen (of captions `shown_captions`, and half as many wrong ones). `reconstructions` are
    (originals, reconstructions), uint8 [n, H, W, 3]; `curves` maps a stage to its lines of
    metrics.jsonl; `withheld` is the share of colour-shape pairs that training never saw."""
    report = EMPTY | dict(report)
    scores, cpu = report["scores"], report["cpu_seconds"]
    captioners = [g for g in generators if any(t.kind == "caption" for t in g.trials)]
    page = template("page.html").render(
        title=title,
        intro=intro,
        report=report,
        names=[g.name for g in generators],
        withheld=withheld,
        score_groups=[(PAIRS[p], score_rows(scores, generators, p, targets)) for p in PAIRS],
        codec_rows=codec_rows(report["codec"], targets),
        languages=LANGUAGES,
        language_groups=[(PAIRS[p], language_rows(scores, generators, p)) for p in PAIRS],
        part_tables=[
            (g.name, part_table(scores.get(g.name, {}).get("parts", {}))) for g in generators
        ],
        cpu_limit=cpu_limit,
        stages=list(dict.fromkeys([*report["seconds"], *cpu])),
        reconstructions=(
            [(data_uri(a), data_uri(b)) for a, b in zip(*reconstructions, strict=True)]
            if reconstructions is not None
            else []
        ),
        sample_cells=cell_cards(generators, "sample", shown, failures),
        captioners=[g.name for g in captioners],
        caption_cells=cell_cards(captioners, "caption", shown_captions, failures // 2),
        curves=draw_curves(curves or {}, cpu),
        config=json.dumps(config, indent=1, ensure_ascii=False, default=str) if config else "",
    )
    path = Path(directory) / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path
