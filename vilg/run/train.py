"""vilg train: starts a run, or goes on with the one in the workdir.

With codec.workdir empty the codec that the experiment names is trained first, into WORKDIR/codec,
and so is training.first, into WORKDIR/first, so that one command trains any experiment from
nothing. SIGTERM saves and exits with 75; the same command goes on from there."""

import argparse
from typing import Any

from vilg.compiler.flags import FLAG_SETS, add_flags
from vilg.parallel.processes import join
from vilg.types import UserError
from vilg.workdir.profile import parse_window
from vilg.workdir.training import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options; --config is shared by all verbs that take one."""
    parser.add_argument(
        "--workdir",
        required=True,
        help="directory of the run; holds config.json, checkpoints/, metrics.jsonl, samples/",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress line")
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
        help=f"sets of XLA's flags, joined by commas: {', '.join(FLAG_SETS)}",
    )


def main(args: argparse.Namespace, config: Any) -> int:
    """Trains; exit code 0 when all steps are done."""
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
