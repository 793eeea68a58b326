"""The options of `vilg bench`, and its table."""

import argparse
import importlib.util
import json
import os
import platform
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vilg.types import UserError
from vilg.workdir.files import versions

KINDS = ("attention", "caching", "gpt2", "unet", "inception")
NEEDS = {"gpt2": ("torch", "transformers"), "unet": ("torch", "diffusers"), "inception": ("torch",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument(
        "--only", default=",".join(KINDS), help=f"of {', '.join(KINDS)}, joined by commas"
    )
    parser.add_argument("--lite", action="store_true", help="gpt2 also at lite width (minutes)")
    parser.add_argument(
        "--cores", type=int, default=1, help="cores that the process may use (default 1)"
    )
    parser.add_argument("--json", help="a file for the rows")


def main(args: argparse.Namespace, config: Any) -> int:
    """Measures and prints."""
    kinds = args.only.split(",")
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"only={kind!r}: known benchmarks are {', '.join(KINDS)}")
        needed = NEEDS.get(kind, ())
        if not all(importlib.util.find_spec(package) for package in needed):
            raise UserError(
                f"only={kind!r}: {' and '.join(needed)} must be installed; pip install -e '.[dev]',"
                f" or leave {kind} out"
            )
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= args.cores <= len(cores):
        raise UserError(f"cores={args.cores}: this process may use 1 to {len(cores)}")
    os.sched_setaffinity(0, cores[: args.cores])  # before XLA sizes its thread pools
    from vilg.run.bench import attention as bench_attention
    from vilg.run.bench import generator as bench_generator
    from vilg.run.bench import inception as bench_inception
    from vilg.run.bench import unet as bench_unet

    rows: list[dict[str, Any]] = []
    if "attention" in kinds:
        rows += bench_attention.run()
    if "caching" in kinds:
        rows += bench_generator.measure_caching()
    if "gpt2" in kinds:
        rows += bench_generator.measure_gpt2()
        if args.lite:
            rows += bench_generator.measure_gpt2(width=1024, heads=16, repeats=1)
    if "unet" in kinds:
        rows += bench_unet.measure() + bench_unet.measure(side=16, batch=4)
    if "inception" in kinds:
        rows += bench_inception.measure()
    show(rows)
    if args.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": args.cores}
        Path(args.json).write_text(
            json.dumps({"rows": rows, "versions": versions(), **machine}, indent=1)
        )
    return 0


def show(rows: list[dict[str, Any]]) -> None:
    """A table for each set of columns."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    for columns, group in groups.items():
        table = Table(*(c.replace("_", " ") for c in columns))
        for row in group:
            table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
        Console(width=200).print(table)
