"""The options of `vilg compare`, its steps in order, and the table that it prints."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from vilg.config import require
from vilg.experiment_file import load_file, to_dict
from vilg.report.comparison import write_comparison
from vilg.run.compare.protocol import same_protocol, same_text, unmatched
from vilg.run.compare.report import compare
from vilg.run.compare.runs import perform, planned_runs, stored_runs
from vilg.types import UserError
from vilg.workdir.ablation import parse_seeds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options; --config is shared by all verbs that take a config."""
    parser.add_argument(
        "--workdirs",
        default="",
        metavar="NAME=DIR,...",
        help="finished runs to compare, instead of --config",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="directory of report.json, index.html, samples/ and the trained runs",
    )
    parser.add_argument(
        "--budget",
        default="",
        metavar="KIND:AMOUNT",
        help="training budget in place of the file's BUDGET: flops:3e13, images:48000, seconds:600",
    )
    parser.add_argument(
        "--seeds",
        default="",
        help="training seeds joined by commas (default: the file's SEEDS, or 0)",
    )
    parser.add_argument("--quiet", action="store_true", help="prints no progress lines")


def main(args: argparse.Namespace, config: Any) -> int:
    """Trains and measures the contenders, and writes the report and its page."""
    if (config is None) == (not args.workdirs):
        raise UserError(
            "give either --config=experiments/compare_quickstart.py or --workdirs=NAME=DIR,NAME=DIR"
        )
    out = Path(args.out)
    settings: dict[str, Any] = {}
    if config is None:
        require(
            not (args.budget or args.seeds),
            "budget",
            args.budget or args.seeds,
            "applies to training, but --workdirs trains nothing; leave it out",
        )
        runs, budget = stored_runs(args.workdirs), ""
        same_protocol(runs)
    else:
        names = vars(load_file(args.config.partition(":")[0]))
        budget = args.budget or names.get("BUDGET", "")
        settings = dict(names.get("SAMPLING", {}))
        seeds = parse_seeds(args.seeds or ",".join(map(str, names.get("SEEDS", (0,)))))
        runs = planned_runs(args.config, to_dict(config), budget, seeds, out)
        same_protocol(runs)
        ranker = names.get("RANKER")
        reranks = any("best_of" in setting for points in settings.values() for setting in points)
        require(
            not reranks or bool(ranker),
            "SAMPLING",
            settings,
            "has best_of, so the file needs RANKER, the config of the ranker that chooses",
        )
        out.mkdir(parents=True, exist_ok=True)
        perform(runs, {"ranker": ranker} if reranks and ranker else {}, out, args.quiet)
        same_text(runs)
        ranker_workdir = {"ranker": str(out / "ranker")}
        settings = {
            name: [s | (ranker_workdir if "best_of" in s else {}) for s in points]
            for name, points in settings.items()
        }
    out.mkdir(parents=True, exist_ok=True)
    report = compare(runs, settings, out, args.quiet)
    report["protocol"] |= {
        "budget": budget,
        "config": args.config if config is not None else "",
        "unmatched": unmatched(runs),
    }
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
    write_comparison(out, report)
    show(report)
    print(f"{out / 'index.html'}")
    return 0


def show(report: Mapping[str, Any]) -> None:
    """Prints a table of wins for every two contenders."""
    rows = [r for r in report["comparisons"] if r["language"] == "all" and not r["part"]]
    for a, b in dict.fromkeys((r["a"], r["b"]) for r in rows):
        columns = (
            Column(c, justify="right", no_wrap=True)
            for c in ("A", "B", "A won", "tied", "lost", "p")
        )
        table = Table(
            Column(""),
            *columns,
            "A is",
            title=f"A = {a} against B = {b}",
            caption="p over prompts, corrected (Holm)",
        )
        for r in rows:
            if (r["a"], r["b"]) == (a, b):
                counts = [str(r[k]) for k in ("wins", "ties", "losses")]
                verdict = r["verdict"].replace("no significant difference", "not different")
                table.add_row(
                    r["what"],
                    f"{r['score_a']:.3f}",
                    f"{r['score_b']:.3f}",
                    *counts,
                    f"{r['p_holm']:.4f}",
                    verdict,
                )
        Console().print(table)
    for fact, values in report["protocol"]["unmatched"].items():
        listing = "; ".join(f"{name} {value}" for name, value in values.items())
        print(f"differs between the runs: {fact}: {listing}")
