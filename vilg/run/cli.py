"""The command line: `vilg VERB ...`. Each verb is a module with add_arguments(parser) and
main(args, config) -> exit code.

Exit codes: 0 success, 2 a mistake of the user's (one sentence, no traceback), 75 stopped by
preemption after saving, 1 anything else."""

import argparse
import contextlib
import errno
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any, cast

from vilg.run.terminal.huge_pages import ask_for_huge_pages
from vilg.run.terminal.parser import Parser
from vilg.run.terminal.standard_error import Unread

VERBS = {
    "train": "start a run, or go on with the one in --workdir",
    "sample": "images from prompts",
    "caption": "captions of images",
    "assemble": "one run of the runs that each trained one expert",
    "evaluate": "every evaluator of the config, as JSON",
    "score": "scores of anybody's captions or pictures, no run needed",
    "compare": "generators against each other at one budget, by one protocol, on one page",
    "sweep": "an ablation: cells x seeds, trained and evaluated, as a table and a plot",
    "plan": "layouts ranked on TPUs that are not here: memory, collectives, estimated step",
    "launch": "job files for TPU VMs, GKE, Slurm, slices, sweeps",
    "verify": "loss and gradients of a step equal under every layout, on fake devices",
    "data": "make, fetch, convert and look at data",
    "bench": "benchmarks, as ratios against a named baseline in one run",
    "judge": "blind human rating of samples, captions or answers in a browser; win rates",
    "doctor": "the environment, the devices, contradictions in a config",
    "quickstart": "codec, transformer, samples, captions, scores and a page, on synthetic scenes",
}
WITH_CONFIG = ("train", "compare", "sweep", "plan", "launch", "verify", "doctor", "quickstart")
DISK = (
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
)  # what a path can be wrong with, where no path is told


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; the exit code."""
    if argv is None:
        ask_for_huge_pages()
    argv = list(sys.argv[1:] if argv is None else argv)
    with contextlib.redirect_stderr(cast(Any, Unread(sys.stderr))):
        return started(argv)


def started(argv: Sequence[str]) -> int:
    """`main`, of arguments that are there."""
    verb, rest = (argv[0], argv[1:]) if argv else ("", [])
    from vilg.config import suggestion
    from vilg.types import Diverged, Preempted, UserError

    try:
        if verb in ("", "-h", "--help"):
            print(usage(), flush=True)
            return 0 if verb else 2
        if verb not in VERBS:
            print(
                f"vilg: {verb!r} is not a verb; {suggestion(verb, VERBS)}verbs are"
                f" {', '.join(VERBS)}",
                file=sys.stderr,
            )
            return 2
        return call(verb, rest)
    except UserError as error:
        print(f"vilg {verb}: {error}", file=sys.stderr)
        return 2
    except Preempted as error:
        print(f"vilg {verb}: {error}", file=sys.stderr)
        return 75
    except Diverged as error:
        print(f"vilg {verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"vilg {verb}: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        print(
            f"vilg {verb}: out of memory ({error or 'no more to be had'}); ask for less at once:"
            " smaller pictures, fewer rows",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        if error.filename is None and error.errno not in DISK:
            raise
        where = "" if error.filename is None else f"{error.filename!r}: "
        print(
            f"vilg {verb}: {where}{error.strerror}; give a path that can be read or written so",
            file=sys.stderr,
        )
        return 2


def call(verb: str, argv: Sequence[str]) -> int:
    """Parses a verb's arguments and runs it."""
    from vilg.run.terminal.staging import staged
    from vilg.types import UserError

    module = importlib.import_module(f"vilg.run.{verb}")
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog=f"vilg {verb}", description=module.__doc__, formatter_class=form, allow_abbrev=False
    )
    config_args: list[str] = []
    if verb in WITH_CONFIG:
        parser.add_argument(
            "--config",
            metavar="FILE.py[:size]",
            help="the experiment; --config.path.to.key=value overrides a field",
        )
        config_args = [a for a in argv if a.startswith("--config")]
        config_args = joined_config(argv) if "--config" in argv else config_args
        for a in config_args:
            if a.startswith("--config.") and "=" not in a:
                raise UserError(
                    f"{a}: has no value; write it with =, such as --config.training.steps=40"
                )
        argv = [a for a in argv if not a.startswith("--config.")]
    module.add_arguments(parser)
    args = parser.parse_args(argv)
    args.config_arguments = config_args
    config = read_config(config_args) if config_args else None
    with staged(verb, args):
        return module.main(args, config)


def joined_config(argv: Sequence[str]) -> list[str]:
    """The config arguments with "--config FILE" joined to "--config=FILE"."""
    out = []
    for i, a in enumerate(argv):
        if a == "--config" and i + 1 < len(argv):
            out.append(f"--config={argv[i + 1]}")
        elif a.startswith("--config") and a != "--config":
            out.append(a)
    return out


def read_config(arguments: Sequence[str]) -> Any:
    """The ConfigDict of --config=FILE.py[:size] with its overrides. Errors: UserError, one
    sentence.
    """
    from absl import flags
    from ml_collections import config_flags

    from vilg.experiment_file import load_config
    from vilg.overrides import admit
    from vilg.types import UserError

    files = [a.split("=", 1)[1] for a in arguments if a.startswith("--config=")]
    if not files:
        raise UserError("--config is missing: give --config=FILE.py[:size] before its overrides")
    file = files[-1].partition(":")[0]
    if not os.path.isfile(file):
        raise UserError(
            f"config={files[-1]!r}: there is no such file; the experiments are in experiments/ of"
            " vilg's clone"
        )
    if not file.endswith(".py"):
        raise UserError(
            f"config={files[-1]!r}: is no Python file; give one such as"
            " experiments/ernie_vilg.py:tiny"
        )
    overrides = [a for a in arguments if a.startswith("--config.")]
    try:
        config = load_config(files[-1])
    except UserError:
        raise
    except Exception as error:  # whatever the file does
        where = traceback.extract_tb(error.__traceback__)[-1]
        line = error.lineno if isinstance(error, SyntaxError) else where.lineno
        said = error.msg if isinstance(error, SyntaxError) else f"{type(error).__name__}: {error}"
        file = error.filename if isinstance(error, SyntaxError) else where.filename
        raise UserError(
            f"config={files[-1]!r}: {said} ({file}, line {line}); correct the file"
        ) from None
    values = flags.FlagValues()
    argv = ["vilg", *overrides]
    try:
        for override in overrides:
            admit(config, override.removeprefix("--config.").partition("=")[0].split("."))
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
        return values.config
    except UserError:
        raise
    except (flags.Error, KeyError, AttributeError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        wrong = re.search(
            r"flag --(config\.\S+?)=(.*?): (?:invalid literal for (int)|could not convert)", said
        )
        if wrong:
            raise UserError(
                f"{wrong[1]}={wrong[2]!r}: must be {'a whole number' if wrong[3] else 'a number'}"
            ) from None
        raise UserError(
            f"config: {said.strip(chr(34))} (in {' '.join(arguments)}); correct the override or the"
            " file"
        ) from None


def usage() -> str:
    """The screen of `vilg --help`."""
    verbs = "\n".join(f"  {name:<11} {what}" for name, what in VERBS.items())
    return (
        "vilg: text-to-image and image-to-text generators in JAX, from a laptop to a pod\n\n"
        f"usage: vilg VERB ...\n\n{verbs}\n\n"
        "  vilg train --config=experiments/ernie_vilg.py:tiny --workdir=runs/tiny\n"
        "  vilg sample --workdir=runs/tiny --prompt='a large red circle' --out=out\n\n"
        "vilg VERB --help explains a verb. Overrides: --config.training.steps=2000"
    )


if __name__ == "__main__":
    sys.exit(main())
