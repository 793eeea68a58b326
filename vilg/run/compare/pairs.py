"""The comparison of every two contenders of `vilg compare` on the same prompts, cell by cell, from
stored scores.

The file is separate from the measurements, so that it needs no run and no model."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vilg.metrics.intervals import interval, t_interval
from vilg.metrics.paired import holm, paired
from vilg.types import UserError


def pairs(finals: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of every two contenders on every cell: over all prompts, by language, and by part.

    `finals` is {name: one {"trials": {cell: columns}} for each seed}. Prompts whose score could not
    be determined in one of the runs are left out of the row. Errors: UserError for prompts that
    differ."""
    rows = []
    for a, b in itertools.combinations(finals, 2):
        runs = [[r["trials"] for r in finals[name]] for name in (a, b)]
        for cell, columns in runs[0][0].items():
            prompts = columns["prompt"]
            if any(t.get(cell, {}).get("prompt") != prompts for side in runs for t in side):
                raise UserError(
                    f"evals: {a} and {b} were evaluated on different prompts in {cell}; evaluate"
                    " both with the same version of this program"
                )
            languages = np.array(columns["language"])
            all_prompts = languages != ""
            scores = [[t[cell]["score"] for t in side] for side in runs]
            rows.append(row(a, b, cell, "", "all", scores, all_prompts))
            rows += [
                row(a, b, cell, "", g, scores, languages == g)
                for g in sorted(set(languages.tolist()))
            ]
            for part in columns["parts"]:
                scores = [[t[cell]["parts"][part] for t in side] for side in runs]
                rows.append(row(a, b, cell, part, "all", scores, all_prompts))
    rows = [r for r in rows if r]
    corrected = holm([r["p"] for r in rows])
    verdicts = [
        {"p_holm": p, "verdict": r.pop("comparison").verdict(p)}
        for r, p in zip(rows, corrected, strict=True)
    ]
    return [r | v for r, v in zip(rows, verdicts, strict=True)]


def row(
    a: str,
    b: str,
    cell: str,
    part: str,
    language: str,
    scores: Sequence[Sequence[Any]],
    chosen: np.ndarray,
) -> dict[str, Any]:
    """One row of the table of wins; {} where nothing can be compared. `scores` holds for A and for
    B a list of scores for each seed; `chosen` (bool) selects the prompts of the row."""
    known = chosen & np.array(
        [all(s[i] is not None for side in scores for s in side) for i in range(len(chosen))]
    )
    if not known.any():
        return {}
    scores_a, scores_b = (
        np.array([[float(s[i]) for i in np.flatnonzero(known)] for s in side]) for side in scores
    )
    comparison = paired(scores_a, scores_b)
    fields = {f.name: getattr(comparison, f.name) for f in dataclasses.fields(comparison)}
    numbers = {
        "score_a": float(scores_a.mean()),
        "score_b": float(scores_b.mean()),
        "n": int(scores_a.shape[1]),
        "share": shares(scores[0][0]),
    }
    return {
        "a": a,
        "b": b,
        "what": cell,
        "part": part,
        "language": language,
        **numbers,
        **fields,
        "comparison": comparison,
    }


def summary(finals: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{cell: {"score", "n", "share", "ci95"}} of one contender's seeds. The interval is Wilson's
    for shares and Student's t for other scores; with several seeds it is None."""
    out = {}
    for cell, columns in finals[0]["trials"].items():
        seeds = [[float(s) for s in f["trials"][cell]["score"] if s is not None] for f in finals]
        if not all(seeds):
            continue
        mean, share = float(np.mean([np.mean(s) for s in seeds])), shares(columns["score"])
        limits = list(interval(mean, len(seeds[0]))) if share else t_interval(seeds[0])
        out[cell] = {
            "score": mean,
            "n": len(seeds[0]),
            "share": share,
            "ci95": limits if len(seeds) == 1 else None,
        }
    return out


def shares(scores: Sequence[object]) -> bool:
    """Whether the scores are True or False, so that their mean is a share."""
    return all(isinstance(s, bool) for s in scores if s is not None)
