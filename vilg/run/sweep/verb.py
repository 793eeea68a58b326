"""The options of `vilg sweep`, and its runs one after another."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vilg.compiler.flags import FLAG_SETS, add_flags
from vilg.evals.numbers import flat
from vilg.experiment_file import to_dict
from vilg.paths import Place, as_path, written_to
from vilg.program import Program
from vilg.report.dots import draw_dots
from vilg.run.sweep.table import Summary, headline, show, shown, summarize
from vilg.training.log import read_metrics
from vilg.types import Diverged, UserError
from vilg.workdir.ablation import (
    Ablation,
    Run,
    ablation_runs,
    naming,
    parse_seeds,
    read_ablation,
    with_starts,
)
from vilg.workdir.files import commit, versions
from vilg.workdir.session import open_session
from vilg.workdir.stages import Costs
from vilg.workdir.training import train

LAST_SHARE = 0.1  # the last share of the logged steps, whose mean loss is training/loss


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options; --config is shared by all verbs that take a config."""
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="directory of the runs, sweep.json and sweep.png",
    )
    parser.add_argument(
        "--cells",
        default="",
        help="cells joined by commas; the cells that they start from run too (default: all)",
    )
    parser.add_argument(
        "--seeds",
        default="",
        help="whole numbers joined by commas (default: the file's SEEDS, or 0,1,2)",
    )
    parser.add_argument(
        "--task",
        action="store_true",
        help="one of several tasks at once: writes its rows to DIR/tasks/CELLS-SEEDS, no table",
    )
    parser.add_argument("--quiet", action="store_true", help="prints no progress lines of the runs")
    parser.add_argument(
        "--flags",
        default="",
        metavar="NAMES",
        help=f"sets of XLA flags, joined by commas: {', '.join(FLAG_SETS)}",
    )


def main(args: argparse.Namespace, config: Any) -> int:
    """Trains and evaluates the missing runs, and shows the tables and the plot of all runs."""
    if config is None:
        raise UserError(
            "--config is missing: give --config=experiments/ablations/noise.py, or another file"
            " that has CELLS"
        )
    add_flags(args.flags)
    ablation = read_ablation(args.config)
    seeds = parse_seeds(args.seeds) if args.seeds else ablation.seeds
    chosen = args.cells.split(",") if args.cells else list(ablation.cells)
    out = as_path(args.out)
    ledger = out / "tasks" / "-".join(("+".join(chosen), *map(str, seeds))) if args.task else out
    stored = [
        pair
        for file in (out / "sweep.json", *sorted(out.glob("tasks/*/sweep.json")))
        for pair in read_rows(file).items()
    ]
    runs = ablation_runs(
        to_dict(config), ablation, sorted({*seeds, *(seed for (_, seed), _ in stored)}), out
    )
    rows = {key: row for key, row in stored if key in runs and row["mark"] == runs[key].mark}
    todo = [runs[cell, seed] for seed in seeds for cell in with_starts(chosen, ablation.cells)]
    # A Program refuses a batch that the devices or experts cannot divide evenly: that is found
    # before any training.
    for run in todo:
        if run.seed == seeds[0]:
            with naming(run.cell):
                Program(run.experiment)
    ledger.mkdir(parents=True, exist_ok=True)
    for i, run in enumerate(todo):
        if (run.cell, run.seed) not in rows:
            rows[run.cell, run.seed] = perform(run, rows, out, ledger, args.quiet)
        row = rows[run.cell, run.seed]
        print(
            f"{i + 1}/{len(todo)} {run.name}: {row['failed'] or headline(row, ablation.metrics)}",
            file=sys.stderr,
            flush=True,
        )
        written = {(r.cell, r.seed) for r in todo} if args.task else rows.keys()
        some = {key: row for key, row in rows.items() if key in written}
        write(ledger, args.config, ablation, some)
    if args.task:
        return 0
    summary = write(out, args.config, ablation, rows)
    show(summary, ablation)
    with written_to(out / "sweep.png") as picture:
        draw_dots(
            picture,
            summary,
            shown(summary, ablation.metrics),
            ablation.tables or {"": list(summary)},
        )
    return 0


def perform(
    run: Run,
    rows: Mapping[tuple[str, int], Mapping[str, object]],
    out: Place,
    ledger: Place,
    quiet: bool,
) -> dict[str, Any]:
    """Trains and evaluates a run, and returns its row. `ledger` is the directory that stores the
    costs. A run that diverged gives a row too, with the error in "failed"."""
    training = run.experiment.training
    row: dict[str, Any] = {
        "cell": run.cell,
        "seed": run.seed,
        "overrides": run.overrides,
        "mark": run.mark,
    }
    row |= {
        "workdir": str(run.workdir.relative_to(out)),
        "steps": training.steps,
        "batch_size": training.batch_size,
    }
    row |= {"parameters": 0, "metrics": {}, "failed": ""}
    costs = Costs(ledger / "costs.json")
    try:
        if run.start and rows[run.start, run.seed]["failed"]:
            raise Diverged(f"{run.start}/{run.seed}, from which this run starts, has failed")
        if run.codec:
            with costs.stage(as_path(run.codec).name, resumes=True):
                train(run.experiment.codec_config, run.codec, quiet, title="codec")
        with costs.stage(row["workdir"], resumes=True):
            train(run.experiment.config, run.workdir, quiet, title=run.name)
        session = open_session(str(run.workdir))
        row |= {"parameters": session.program.parameters, "metrics": measure(run, session)}
    except Diverged as error:
        row["failed"] = str(error)
    finally:
        # Every run compiles its own programs, so that costs are comparable, and memory does not
        # fill with programs.
        jax.clear_caches()
    for name, cost in (("cpu_seconds", costs.cpu_seconds), ("seconds", costs.seconds)):
        row[name] = cost.get(row["workdir"], 0.0)
    return row


def measure(run: Run, session: Any) -> dict[str, float]:
    """The evaluators' numbers, the training loss at the end, and the other numbers of the last line
    of the run's log."""
    lines = read_metrics(run.workdir / "metrics.jsonl")
    losses = [line["loss"] for line in lines if line.get("loss") is not None]
    metrics = {}
    if losses:
        last = losses[-max(1, round(LAST_SHARE * len(losses))) :]
        metrics["training/loss"] = float(np.mean(last))
    metrics |= {
        name: value
        for name, value in (lines[-1] if lines else {}).items()
        if "/" in name and isinstance(value, int | float)
    }
    return metrics | flat(
        {name: evaluate(session) for name, evaluate in run.experiment.evals.items()}
    )


def read_rows(path: Place) -> dict[tuple[str, int], dict[str, object]]:
    """The rows of a sweep.json by cell and seed; none where the file does not exist."""
    if not path.is_file():
        return {}
    try:
        return {(row["cell"], row["seed"]): row for row in json.loads(path.read_text())["rows"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"out={str(path.parent)!r}: sweep.json cannot be read ({error}); remove the file:"
            " finished runs are not trained again"
        ) from None


def write(
    out: Place,
    config: str,
    ablation: Ablation,
    rows: Mapping[tuple[str, int], Mapping[str, object]],
) -> Summary:
    """Writes sweep.json, with its rows in the order of cells and seeds, and returns its summary."""
    cells = list(ablation.cells)
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (cells.index(key[0]), key[1]))]
    summary = summarize(ordered, ablation)
    content = {
        "config": config,
        "commit": commit(),
        "versions": versions(),
        "device": jax.devices()[0].device_kind,
    }
    content |= {"metrics": dict(ablation.metrics), "rows": ordered, "summary": summary}
    temporary = out / "sweep.tmp"
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False))
    temporary.replace(out / "sweep.json")
    return summary
