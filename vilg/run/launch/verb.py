"""The options of `vilg launch`."""

import argparse
import re
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vilg.config import lookup, require
from vilg.experiment import build_experiment
from vilg.experiment_file import to_dict
from vilg.run.launch.context import BUCKET, IMAGE
from vilg.run.launch.files import Files, show, write
from vilg.run.launch.jobs import KINDS, Kind
from vilg.types import UserError


class Option(NamedTuple):
    """An option that some kinds take: its help, and arguments of add_argument."""

    help: str
    form: dict[str, Any]


OPTIONS: dict[str, Option] = {
    "topology": Option("v5p:4x4x4, as in `vilg plan`", {"metavar": "NAME"}),
    "spot": Option("capacity that may be taken away", {"action": "store_const", "const": True}),
    "image": Option("of the container, pushed by run.sh", {"metavar": "NAME"}),
    "profile": Option("as in `vilg train`", {"metavar": "A:B"}),
    "nodes": Option("machines", {"type": int, "metavar": "N"}),
    "gpus": Option("of each, 0 for CPUs; a process each", {"type": int, "metavar": "N"}),
    "cpus": Option("cores of each process", {"type": int, "metavar": "N"}),
    "time": Option("limit of one start", {"metavar": "H:MM:SS"}),
    "partition": Option("of Slurm", {"metavar": "NAME"}),
    "account": Option("of Slurm", {"metavar": "NAME"}),
    "cells": Option("as in `vilg sweep`", {"metavar": "A,B"}),
    "seeds": Option("as in `vilg sweep`", {"metavar": "A,B"}),
    "jobs": Option("tasks at once", {"type": int, "metavar": "N"}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options; those of OPTIONS are None where they are not given."""
    parser.usage = "vilg launch KIND --config=FILE.py[:size] (--out=DIR | --dry-run) [options]"
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--name", default="", help="of the job (default: from the config's)")
    parser.add_argument(
        "--workdir", default="", metavar="DIR", help="of the run (or sweep), seen by all hosts"
    )
    parser.add_argument("--out", default="", metavar="DIR", help="writes the files there")
    parser.add_argument("--dry-run", action="store_true", help="prints them")
    parser.add_argument(
        "--flags", metavar="NAMES", help="as `vilg train --flags` (default: by kind)"
    )
    parser.add_argument(
        "--cache",
        default="",
        metavar="DIR",
        help="of compiled programs (default: beside the workdir)",
    )
    parser.add_argument(
        "--restarts", type=int, default=100, metavar="N", help="at most (default: 100)"
    )
    for name, option in OPTIONS.items():
        kinds = ", ".join(k for k, kind in KINDS.items() if name in kind.options)
        parser.add_argument(f"--{name}", help=f"{option.help} ({kinds})", **option.form)


def main(args: argparse.Namespace, config: ConfigDict | None) -> int:
    """Writes or prints the files of a job; the exit code."""
    kind: Kind = lookup(KINDS, args.kind, "kind")
    if config is None:
        raise UserError(
            "--config is missing: give an experiment, such as"
            " --config=experiments/ernie_vilg.py:10b"
        )
    add_defaults(args, kind)
    remedy = "give --out=DIR to write the files, or --dry-run to print them"
    require(bool(args.out) or args.dry_run, "out", args.out, remedy)
    require(args.restarts >= 0, "restarts", args.restarts, "must not be negative")
    args.name = args.name or default_name(args.config)
    # JobSet adds up to 24 characters for the names of pods
    valid = re.fullmatch(r"[a-z]([-a-z0-9]{0,37}[a-z0-9])?", args.name) is not None
    remedy = "must be at most 39 lower-case letters, digits and -, beginning with a letter"
    require(valid, "name", args.name, remedy)
    files = kind.make(args, build_experiment(to_dict(config)))
    if args.dry_run:
        show(files)
    if args.out:
        check_placeholders(files)
        write(files, Path(args.out))
    return 0


def add_defaults(args: argparse.Namespace, kind: Kind) -> None:
    """Gives the options of the kind their defaults. Errors: UserError for an option that the kind
    does not take.
    """
    for name in OPTIONS:
        given = vars(args)[name]
        if given is not None and name not in kind.options:
            raise UserError(
                f"--{name} is no option of kind {args.kind}; it has"
                f" {', '.join(f'--{n}' for n in kind.options)}"
            )
        if given is None and name in kind.options:
            setattr(args, name, kind.options[name])


def default_name(config: str) -> str:
    """A job's name by its experiment: "ernie-vilg-10b" for experiments/ernie_vilg.py:10b."""
    file, _, size = config.partition(":")
    return re.sub(r"[^a-z0-9]+", "-", f"{Path(file).stem}-{size}".lower()).strip("-")


def check_placeholders(files: Files) -> None:
    """Errors: UserError for a file with a placeholder that the user has to replace."""
    for placeholder, option in ((BUCKET, "workdir"), (IMAGE, "image")):
        if any(placeholder in text for text in files.values()):
            raise UserError(f"{option}={placeholder!r}: stands for your own; give --{option}")
