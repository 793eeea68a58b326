"""vilg train: starts a run, or continues the run in the workdir.

With an empty codec.workdir the codec of the experiment is trained first, in WORKDIR/codec, and so
is the experiment of training.first, in WORKDIR/first: one command trains any experiment from
nothing. SIGTERM saves the state and exits with code 75; the same command then continues the run."""

import argparse
from typing import Any

from vilg.compiler.flags import FLAG_SETS, add_flags
from vilg.parallel.processes import join
from vilg.types import UserError
from vilg.workdir.profile import parse_window
from vilg.workdir.training import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options; --config is shared by all verbs that take a config."""
    parser.add_argument(
        "--workdir",
        required=True,
        help="directory of the run; holds config.json, checkpoints/, metrics.jsonl, samples/",
    )
    parser.add_argument("--quiet", action="store_true", help="prints no progress line")
    parser.add_argument(
        "--profile",
        default="",
        metavar="START:STOP",
        help="traces these updates into WORKDIR/profile (TensorBoard, Perfetto)",
    )
    parser.add_argument(
        "--flags",
        default="",
        metavar="NAMES",
        help=f"sets of XLA flags, joined by commas: {', '.join(FLAG_SETS)}",
    )


def main(args: argparse.Namespace, config: Any) -> int:
    """Trains the run; the exit code is 0 when all steps are done."""
    if config is None:
        raise UserError(
            "--config is missing: give --config=FILE.py[:size], such as"
            " experiments/ernie_vilg.py:tiny"
        )
    add_flags(args.flags)
    window = parse_window(args.profile)
    join()
    train(config, args.workdir, quiet=args.quiet, window=window)
    return 0
