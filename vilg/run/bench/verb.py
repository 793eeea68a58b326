"""The options of `vilg bench`, and its tables."""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from vilg.run.terminal.outputs import output_file
from vilg.types import UserError
from vilg.workdir.files import versions


class Benchmark(NamedTuple):
    """A benchmark: the module whose `run(lite)` gives its rows, and the packages that it needs
    beside vilg's own. The module is imported late, because XLA sizes its pools of threads by the
    cores that the process may use when JAX is loaded.
    """

    module: str
    needs: tuple[str, ...] = ()


BENCHMARKS: dict[str, Benchmark] = {
    "attention": Benchmark("vilg.run.bench.attention"),
    "caching": Benchmark("vilg.run.bench.caching"),
    "gpt2": Benchmark("vilg.run.bench.gpt2", ("torch", "transformers")),
    "unet": Benchmark("vilg.run.bench.unet", ("torch", "diffusers")),
    "inception": Benchmark("vilg.run.bench.inception", ("torch",)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    names = ", ".join(BENCHMARKS)
    parser.add_argument(
        "--only", default=",".join(BENCHMARKS), help=f"of {names}, joined by commas (default: all)"
    )
    parser.add_argument("--lite", action="store_true", help="gpt2 also at lite width (minutes)")
    parser.add_argument(
        "--cores", type=int, default=1, help="cores that the process may use (default 1)"
    )
    parser.add_argument("--json", help="a file for the rows")


def main(args: argparse.Namespace, config: ConfigDict | None) -> int:
    """Measures and prints; the exit code."""
    names = args.only.split(",")
    for name in names:
        check(name)
    if args.json:
        output_file(args.json, ".json", "json")
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= args.cores <= len(cores):
        raise UserError(f"cores={args.cores}: this process may use 1 to {len(cores)}")
    os.sched_setaffinity(0, cores[: args.cores])
    rows: list[dict[str, object]] = []
    for name, benchmark in BENCHMARKS.items():
        if name in names:
            print(f"vilg bench: {name}", file=sys.stderr, flush=True)
            rows += importlib.import_module(benchmark.module).run(args.lite)
    show(rows)
    if args.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": args.cores}
        report = {"rows": rows, "versions": versions(), **machine}
        Path(args.json).write_text(json.dumps(report, indent=1))
    return 0


def check(name: str) -> None:
    """Errors: UserError for an unknown benchmark, and for one whose packages are missing."""
    if name not in BENCHMARKS:
        raise UserError(f"only={name!r}: known benchmarks are {', '.join(BENCHMARKS)}")
    needs = BENCHMARKS[name].needs
    if not all(importlib.util.find_spec(package) for package in needs):
        raise UserError(
            f"only={name!r}: {' and '.join(needs)} must be installed; pip install -e '.[dev]',"
            f" or leave {name} out"
        )


def show(rows: Sequence[dict[str, object]]) -> None:
    """Prints a table for each set of columns."""
    groups: dict[tuple[str, ...], list[dict[str, object]]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    for columns, group in groups.items():
        table = Table(*(c.replace("_", " ") for c in columns))
        for row in group:
            table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
        Console(width=200).print(table)
