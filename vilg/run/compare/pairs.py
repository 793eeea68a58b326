"""Who wins: every two contenders of `vilg compare` on the same prompts, cell by cell, from the
scores that are stored.

Separate from the measuring, so that it needs no run and no model.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vilg.metrics.intervals import interval, t_interval
from vilg.metrics.paired import holm, paired
from vilg.types import UserError


def pairs(finals: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Every two contenders on every cell: in all, by language, and by part. `finals`: {name: one
    {"trials": {cell: columns}} a seed}.

    Prompts whose score cannot be told in one of the runs are left out of the row. Errors: UserError
    for prompts that differ."""
    rows = []
    for a, b in itertools.combinations(finals, 2):
        runs = [[r["trials"] for r in finals[name]] for name in (a, b)]
        for cell, asked in runs[0][0].items():
            if any(t.get(cell, {}).get("prompt") != asked["prompt"] for side in runs for t in side):
                raise UserError(
                    f"evals: {a} and {b} were asked different prompts in {cell}; evaluate both with"
                    " the same version"
                )
            languages = np.array(asked["language"])
            scores = [[t[cell]["score"] for t in side] for side in runs]
            rows.append(row(a, b, cell, "", "all", scores, languages != ""))
            rows += [
                row(a, b, cell, "", g, scores, languages == g)
                for g in sorted(set(languages.tolist()))
            ]
            for part in asked["parts"]:
                rows.append(
                    row(
                        a,
                        b,
                        cell,
                        part,
                        "all",
                        [[t[cell]["parts"][part] for t in side] for side in runs],
                        languages != "",
                    )
                )
    rows = [r for r in rows if r]
    corrected = holm([r["p"] for r in rows])
    verdicts = [
        {"p_holm": p, "verdict": r.pop("found").verdict(p)}
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
    """One row of the table of wins, {} where nothing can be compared. `scores`: of A and of B, a
    list of scores for each seed.
    """
    known = chosen & np.array(
        [all(s[i] is not None for side in scores for s in side) for i in range(len(chosen))]
    )
    if not known.any():
        return {}
    first, second = (
        np.array([[float(s[i]) for i in np.flatnonzero(known)] for s in side]) for side in scores
    )
    found = paired(first, second)
    fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    numbers = {
        "score_a": float(first.mean()),
        "score_b": float(second.mean()),
        "n": int(first.shape[1]),
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
        "found": found,
    }


def summary(finals: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{cell: {"score", "n", "share", "ci95"}} of one contender's seeds: Wilson's interval of
    shares, else Student's; none of several seeds.
    """
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


def shares(scores: Sequence[Any]) -> bool:
    """Whether the scores say right or wrong."""
    return all(isinstance(s, bool) for s in scores if s is not None)
