"""The votes of a study as numbers: STUDY/report.json, and tables for people."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from vilg.metrics.ratings import Level, Vote, comparisons, scores
from vilg.run.judge.study import Item, Study
from vilg.run.terminal.outputs import counted
from vilg.types import UserError

RESAMPLES = 10_000
Rows = dict[str, list[dict[str, Any]]]  # {question: rows of comparisons, or of scores}


def report(out: Path, study: Study, votes: Sequence[Vote]) -> None:
    """Prints the numbers and writes report.json. Errors: UserError if nobody has voted."""
    if not votes:
        raise UserError(
            f"out={str(out)!r}: the study has no votes yet; serve it, or add some with"
            " --import=FILE"
        )
    metrics: dict[str, Any] = {"all": measured(study, votes, study.items)}
    for name, groups in groups_of(study.items).items():
        if len(groups) > 1:
            metrics[name] = {g: measured(study, votes, items) for g, items in groups.items()}
    protocol = protocol_of(study, votes)
    path = out / "report.json"
    path.write_text(
        json.dumps({"metrics": metrics, "protocol": protocol}, ensure_ascii=False, indent=1),
        encoding="utf-8",
    )
    finished = f"{protocol['raters']['finished']} of {study.raters} raters finished"
    tie = ", a tie is half a win" if study.asks.pairs else ""
    print(f"{study.protocol}: {finished}, {counted(len(votes), 'vote')}; intervals are 95 %{tie}")
    show(metrics, study.asks.pairs)
    print(path)


def groups_of(items: Sequence[Item]) -> dict[str, dict[str, list[Item]]]:
    """The items by category, where they have one, and by language."""
    groups: dict[str, dict[str, list[Item]]] = {"category": {}, "language": {}}
    for item in items:
        for name, group in (("category", item.category), ("language", item.language)):
            if group:
                groups[name].setdefault(group, []).append(item)
    return {name: dict(sorted(group.items())) for name, group in groups.items()}


def measured(study: Study, votes: Sequence[Vote], items: Sequence[Item]) -> Rows:
    """The rows of each question, from the votes on these items."""
    measure = comparisons if study.asks.pairs else scores
    asked: dict[str, tuple[set[str], Level]] = {
        q.name: ({q.name}, q.level) for q in study.asks.questions
    }
    if study.asks.average:
        asked["average"] = (set(asked), study.asks.questions[0].level)
    ids = {item.id for item in items}
    rows: Rows = {}
    for name, (questions, level) in asked.items():
        on_items = [v for v in votes if v.question in questions and v.item in ids]
        rows[name] = measure(
            on_items, study.shown(), study.models, level, resamples=RESAMPLES, seed=study.seed
        )
    return rows


def protocol_of(study: Study, votes: Sequence[Vote]) -> dict[str, Any]:
    """How the numbers came about."""
    raters = {vote.rater for vote in votes}
    asked = len(study.items) * len(study.asks.questions)
    return {
        "protocol": study.protocol,
        "source": study.asks.source,
        "questions": {
            q.name: {"text": q.text, "values": sorted(q.values), "level": q.level}
            for q in study.asks.questions
        },
        "models": study.models,
        "items": len(study.items),
        "prompts_left_out": study.left_out,
        "raters": {
            "planned": study.raters,
            "voted": len(raters),
            "finished": sum(sum(v.rater == rater for v in votes) == asked for rater in raters),
        },
        "interval": (
            f"95 %, percentile bootstrap over prompts with all their votes, {RESAMPLES} resamples"
        ),
        "pooling": "mean over votes; in a win rate a tie counts as half a win",
        "agreement": "Krippendorff's alpha; null where it is undefined",
        "seed": study.seed,
        "study": study.id,
    }


def show(metrics: Mapping[str, Any], pairs: bool) -> None:
    """Prints a table for each pair of systems, or one of the means of all systems."""
    groups: list[tuple[str, Rows]] = [("all", metrics["all"])]
    for name in ("category", "language"):
        groups += metrics.get(name, {}).items()
    tables: dict[str, Table] = {}
    for group, questions in groups:
        for question, rows in questions.items():
            for row in rows:
                title = f"{row['system']} against {row['against']}, per cent" if pairs else ""
                table = tables.setdefault(title, empty_table(title, pairs))
                alpha = "-" if row["alpha"] is None else f"{row['alpha']:.3f}"
                counts = str(row["prompts"]), str(row["votes"])
                table.add_row(group, question, *results(row, pairs), alpha, *counts)
    for table in tables.values():
        Console().print(table)


def empty_table(title: str, pairs: bool) -> Table:
    """A table without rows."""
    names = ("win/tie/lose", "win rate") if pairs else ("system", "mean")
    columns = (Column(name, no_wrap=True) for name in names)
    return Table(
        *("of", "question", *columns, "alpha", "prompts", "votes"),
        title=title,
        box=None,
        padding=(0, 2, 0, 0),
    )


def results(row: Mapping[str, Any], pairs: bool) -> tuple[str, str]:
    """A row's cells under the result's two headers."""
    low, high = row["ci95"]
    if not pairs:
        return row["system"], f"{row['mean']:.3f} ({low:.3f}–{high:.3f})"
    shares = "/".join(f"{100 * row[end]['share']:.0f}" for end in ("win", "tie", "lose"))
    return shares, f"{100 * row['win_rate']:.1f} ({100 * low:.1f}–{100 * high:.1f})"
