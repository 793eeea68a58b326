"""vilg evaluate: every evaluator of the config, or those of --evals, as JSON: {"metrics": {...}, "protocol": {...}}."""

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from vilg.run.outputs import output_file
from vilg.run.session import open_session
from vilg.run.train import flat
from vilg.run.workdir import versions
from vilg.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--evals", default="", help="names joined by commas (default: all of the config)")
    parser.add_argument("--out", required=True, help="a .json file")
    parser.add_argument("--raw", action="store_true", help="the last parameters instead of their moving average")


def main(args: argparse.Namespace, config: Any) -> int:
    """Evaluates, prints a table and writes the JSON."""
    out = output_file(args.out, ".json")
    session = open_session(args.workdir, ema=not args.raw)
    evals = session.experiment.evals
    names = args.evals.split(",") if args.evals else list(evals)
    for name in names:
        if name not in evals:
            raise UserError(f"evals={name!r}: this run's config has {', '.join(evals) or 'none'}; choose among them")
    if not names:
        raise UserError("evals is empty: this run's config names no evaluator; train one that does")
    metrics, protocol = {}, {}
    for name in names:
        metrics[name] = evals[name](session)
        protocol[name] = evals[name].protocol()
    protocol |= {
        "workdir": str(args.workdir),
        "step": session.step,
        "parameters": "raw" if args.raw or not session.experiment.training.ema else "ema",
        "config_hash": session.experiment.hash,
        "versions": versions(),
    }
    out.write_text(json.dumps({"metrics": metrics, "protocol": protocol}, indent=1, ensure_ascii=False))
    table = Table("metric", "value", title=f"{args.workdir} at step {session.step}")
    for name, value in flat(metrics).items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)
    return 0
