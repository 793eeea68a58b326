"""The options of `vilg judge`, its report and its tables."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from vilg.metrics.ratings import Level, Vote, comparisons, scores
from vilg.report.protocols import PROTOCOLS
from vilg.run.judge.inputs import read_models
from vilg.run.judge.server import JudgeServer
from vilg.run.judge.study import Study, fingerprint, make_study, read_study, write_study
from vilg.run.judge.votes import Votes
from vilg.run.terminal.outputs import counted
from vilg.types import UserError

HOST, PORT = "127.0.0.1", 8000
RESAMPLES = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.usage = "vilg judge --samples=A,B,... --out=STUDY [options]"
    parser.add_argument(
        "--samples",
        default="",
        help="what each model made, joined by commas; not needed again once STUDY is made",
    )
    parser.add_argument("--out", required=True, metavar="STUDY", help="directory of the study")
    parser.add_argument("--protocol", help=f"{', '.join(PROTOCOLS)} (default: pairs)")
    parser.add_argument("--seed", type=int, help="of the order of items and of sides (default: 0)")
    parser.add_argument(
        "--raters",
        type=int,
        help="how many raters the study takes (default: 5; images: 3); may be raised later",
    )
    parser.add_argument(
        "--common", action="store_true", help="leave out prompts that not all models have"
    )
    parser.add_argument(
        "--port", type=int, help=f"where to serve (default: {PORT}; 0: any free one)"
    )
    parser.add_argument("--host", help=f"address to serve on (default: {HOST}, this machine only)")
    parser.add_argument("--static", action="store_true", help="make the page, do not serve it")
    parser.add_argument(
        "--import",
        dest="imported",
        action="append",
        default=[],
        metavar="FILE",
        help="add a file of votes; repeat for more",
    )
    parser.add_argument(
        "--report", action="store_true", help="print what the votes say and write STUDY/report.json"
    )


def main(args: argparse.Namespace, config: Any) -> int:
    """Makes or opens the study, then serves, imports or reports."""
    quiet = [
        f"--{name}"
        for name, given in (
            ("static", args.static),
            ("import", args.imported),
            ("report", args.report),
        )
        if given
    ]
    for name in ("port", "host"):
        if quiet and getattr(args, name) is not None:
            raise UserError(
                f"{name}={getattr(args, name)!r}: nothing is served with {' and '.join(quiet)};"
                " leave it out"
            )
    out = Path(args.out)
    study = opened(args, out)
    votes = Votes(out / "votes.sqlite", study)
    for file in args.imported:
        print(f"{counted(votes.merge(Path(file)), 'vote')} of {file} in {votes.path}")
    if args.static:
        print(
            f"{counted(len(study.items), 'item')} in {out / 'public'}; send that directory, and add"
            " the votes with --import=FILE"
        )
    if args.report:
        report(out, study, votes.all())
    if not quiet:
        serve(out, study, votes, args.host or HOST, PORT if args.port is None else args.port)
    return 0


def opened(args: argparse.Namespace, out: Path) -> Study:
    """The study of --out, made if there is none. Errors: UserError if it is not the one that the
    options ask for.
    """
    if args.protocol is not None and args.protocol not in PROTOCOLS:
        raise UserError(f"protocol={args.protocol!r}: known protocols are {', '.join(PROTOCOLS)}")
    if args.raters is not None and args.raters < 1:
        raise UserError(f"raters={args.raters}: must be at least 1")
    paths = [p for p in args.samples.split(",") if p.strip()]
    study = read_study(out)
    if study is None:
        if not paths:
            raise UserError(
                f"out={args.out!r}: holds no study; give --samples=DIR_A,DIR_B to make one"
            )
        name = args.protocol or "pairs"
        asks = PROTOCOLS[name]
        if asks.pairs and len(paths) < 2:
            raise UserError(
                f"samples={args.samples!r}: {name} compares models; give two or more, joined by"
                " commas"
            )
        models, left_out = read_models(paths, asks.inputs, args.common)
        out.mkdir(parents=True, exist_ok=True)
        return make_study(out, models, name, args.seed or 0, args.raters or asks.raters, left_out)
    for field in ("protocol", "seed"):
        given, had = getattr(args, field), getattr(study, field)
        if given is not None and given != had:
            raise UserError(
                f"{field}={given!r}: the study in {args.out!r} has {field}={had!r}; leave it out,"
                " or give another --out"
            )
    if paths:
        models, _ = read_models(paths, study.asks.inputs, args.common or study.left_out > 0)
        if fingerprint(models, study.protocol, study.seed) != study.fingerprint:
            raise UserError(
                f"samples={args.samples!r}: differ from those of the study in {args.out!r}; give"
                " another --out"
            )
    if args.raters is not None and args.raters != study.raters:
        study = Study(**{**vars(study), "raters": args.raters})
        write_study(out, study)
    return study


def serve(out: Path, study: Study, votes: Votes, host: str, port: int) -> None:
    """Serves until Ctrl-C."""
    with JudgeServer(host, port, out / "public", votes) as server:
        had = len({vote.rater for vote in votes.all()})
        try:
            print(
                f"{counted(len(study.items), 'item')}, {had} of {counted(study.raters, 'rater')}"
                f" have begun; open {server.address}",
                flush=True,
            )
            print(
                f"Ctrl-C ends; the same command goes on; `vilg judge --out={out} --report` counts",
                flush=True,
            )
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
    print(f"\n{counted(len(votes.all()), 'vote')} in {votes.path}")


def measured(
    study: Study, votes: Sequence[Vote], only: set[str]
) -> dict[str, list[dict[str, Any]]]:
    """For each question the rows of the votes on the items of `only`."""
    make = comparisons if study.asks.pairs else scores
    asked: dict[str, tuple[set[str], Level]] = {
        q.name: ({q.name}, q.level) for q in study.asks.questions
    }
    if study.asks.average:
        asked["average"] = (set(asked), study.asks.questions[0].level)
    found = {}
    for name, (questions, level) in asked.items():
        own = [v for v in votes if v.question in questions and v.item in only]
        found[name] = make(
            own, study.shown(), study.models, level, resamples=RESAMPLES, seed=study.seed
        )
    return found


def report(out: Path, study: Study, votes: Sequence[Vote]) -> None:
    """Prints the numbers and writes report.json. Errors: UserError if nobody has voted."""
    if not votes:
        raise UserError(
            f"out={str(out)!r}: the study has no votes yet; serve it, or add some with"
            " --import=FILE"
        )
    metrics: dict[str, Any] = {"all": measured(study, votes, {item.id for item in study.items})}
    for group in ("category", "language"):
        names = sorted({getattr(item, group) for item in study.items} - {""})
        if len(names) > 1:
            own = {
                name: {item.id for item in study.items if getattr(item, group) == name}
                for name in names
            }
            metrics[group] = {name: measured(study, votes, own[name]) for name in names}
    raters = {vote.rater for vote in votes}
    asked = len(study.items) * len(study.asks.questions)
    protocol = {
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
    path = out / "report.json"
    path.write_text(
        json.dumps({"metrics": metrics, "protocol": protocol}, ensure_ascii=False, indent=1),
        encoding="utf-8",
    )
    said = (
        f"{protocol['raters']['finished']} of {study.raters} raters finished,"
        f" {counted(len(votes), 'vote')}"
    )
    print(
        f"{study.protocol}: {said}; intervals are 95"
        f" %{', a tie is half a win' if study.asks.pairs else ''}"
    )
    show(metrics, study.asks.pairs)
    print(path)


def show(metrics: Mapping[str, Any], pairs: bool) -> None:
    """The rows as tables: one for each pair of systems, or one of all systems' means."""
    groups = [("all", metrics["all"])]
    groups += [
        (name, found)
        for group in ("category", "language")
        for name, found in metrics.get(group, {}).items()
    ]
    tables: dict[str, Table] = {}
    result = ("win/tie/lose", "win rate") if pairs else ("system", "mean")
    for name, found in groups:
        for question, rows in found.items():
            for row in rows:
                title = f"{row['system']} against {row['against']}, per cent" if pairs else ""
                if title not in tables:
                    columns = [
                        "question",
                        *(Column(header, no_wrap=True) for header in result),
                        "alpha",
                        "prompts",
                        "votes",
                    ]
                    tables[title] = Table(
                        "of", *columns, title=title, box=None, padding=(0, 2, 0, 0)
                    )
                low, high = row["ci95"]
                if pairs:
                    shares = "/".join(
                        f"{100 * row[end]['share']:.0f}" for end in ("win", "tie", "lose")
                    )
                    cells = (
                        shares,
                        f"{100 * row['win_rate']:.1f} ({100 * low:.1f}–{100 * high:.1f})",
                    )
                else:
                    cells = (row["system"], f"{row['mean']:.3f} ({low:.3f}–{high:.3f})")
                agreed = "-" if row["alpha"] is None else f"{row['alpha']:.3f}"
                tables[title].add_row(
                    name, question, *cells, agreed, str(row["prompts"]), str(row["votes"])
                )
    for table in tables.values():
        Console().print(table)
