"""The command line: `vilg VERB ...`. Each verb is a module with add_arguments(parser) and
main(args, config) -> exit code.

Exit codes: 0 success, 2 a mistake of the user's (one sentence, no traceback), 75 stopped by
preemption after saving, 1 anything else."""

import argparse
import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from vilg.run.terminal.config_flag import config_arguments, read_config
from vilg.run.terminal.huge_pages import ask_for_huge_pages
from vilg.run.terminal.parser import Parser
from vilg.run.terminal.silence import broken_silence
from vilg.run.terminal.standard_error import Unread


class Verb(NamedTuple):
    """A line of `vilg --help` and what concerns the command line of `vilg VERB`."""

    summary: str
    example: str  # what follows "vilg VERB " at the end of its help
    config: str | None = None  # the default of --config ("": there is none); None: no such option


# what a person wants: the verbs for it, in the order of `vilg --help`
GROUPS: dict[str, dict[str, Verb]] = {
    "train and sample": {
        "quickstart": Verb(
            "a codec and two generators on synthetic scenes, samples, scores and a page",
            "--config=quickstart:smoke --workdir=runs/smoke",
            config="quickstart",
        ),
        "train": Verb(
            "start a run, or go on with the one in --workdir",
            "--config=ernie_vilg:tiny --workdir=runs/tiny",
            config="",
        ),
        "sample": Verb(
            "pictures from prompts",
            "--workdir=runs/tiny --prompt='a large red circle' --num=4 --out=runs/pictures",
        ),
        "caption": Verb(
            "captions of pictures",
            "--workdir=runs/tiny --images=runs/pictures --language=zh,en --out=captions.jsonl",
        ),
        "assemble": Verb(
            "one run from the runs that each trained one expert",
            "--parts=runs/expert0,runs/expert1 --out=runs/experts",
        ),
    },
    "evaluate and compare": {
        "evaluate": Verb(
            "every evaluator of a run's config, as JSON",
            "--workdir=runs/tiny --out=tiny.json",
        ),
        "score": Verb(
            "scores of anybody's captions or pictures, no run needed",
            "images --images=runs/pictures --reference=runs/photographs --out=score.json",
        ),
        "compare": Verb(
            "generators at one budget under one protocol, on one page",
            "--config=compare_quickstart --out=runs/compare",
            config="",
        ),
        "sweep": Verb(
            "an ablation: cells x seeds, trained and evaluated, as a table and a plot",
            "--config=ablations/noise --out=runs/noise",
            config="",
        ),
        "judge": Verb(
            "blind human rating of pictures, captions or answers; win rates",
            "--samples=runs/pictures,runs/other_pictures --out=runs/study",
        ),
    },
    "plan and launch": {
        "plan": Verb(
            "layouts ranked for TPUs that are not here: memory, collectives, time of a step",
            "--config=ernie_vilg:10b --topology=v5p:4x4x4 --layouts=fsdp,fsdp_tp:model=4",
            config="",
        ),
        "verify": Verb(
            "loss and gradients of a step equal under every layout, on fake devices",
            "--config=ernie_vilg:tiny --layouts=all --devices=8",
            config="",
        ),
        "launch": Verb(
            "job files for TPU VMs, GKE, Slurm, several slices, sweeps",
            "slurm --config=ernie_vilg:lite --workdir=runs/lite --nodes=2 --dry-run",
            config="",
        ),
        "bench": Verb(
            "benchmarks, as ratios against a named baseline in one run",
            "--only=attention,caching --json=bench.json",
        ),
        "doctor": Verb(
            "the environment, the devices, contradictions in a config",
            "--config=ernie_vilg:tiny",
            config="",
        ),
    },
    "data and experiments": {
        "data": Verb(
            "make, fetch, convert and look at data",
            "stats --source=folder:runs/photographs",
        ),
        "config": Verb(
            "every field of an experiment with its help; an experiment as a file of your own",
            "show ernie_vilg:tiny --diff=ernie_vilg:small",
            config="",
        ),
        "new": Verb(
            "an experiment for pictures of your own",
            "--source=folder:runs/photographs --out=mine.py",
        ),
    },
}
VERBS: dict[str, Verb] = {name: verb for group in GROUPS.values() for name, verb in group.items()}
DISK = (
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
)  # errors of a path which the operating system reports without the path


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb in ("", "-h", "--help", "--version"):  # these compute nothing
        return said(verb)
    if argv is None:
        ask_for_huge_pages()
    stream = Unread(sys.stderr)
    with contextlib.redirect_stderr(cast(Any, stream)):
        quiet = verb not in VERBS or bool({"--quiet", "-h", "--help"} & set(rest))
        with broken_silence(verb, stream, quiet):
            return started(verb, rest)


def said(option: str) -> int:
    """Prints the help or the versions; the exit code."""
    if option == "--version":
        from vilg.run.terminal.version import version_text

        text = version_text()
    else:
        text = usage()
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0 if option else 2


def started(verb: str, rest: Sequence[str]) -> int:
    """Runs the verb with the arguments after it; the exit code."""
    from vilg.config import suggestion
    from vilg.types import Diverged, Preempted, UserError

    try:
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

    module = importlib.import_module(f"vilg.run.{verb}")
    default = VERBS[verb].config
    experiment = [] if default is None else config_arguments(argv, default)
    if default is not None:
        argv = [a for a in argv if not a.startswith("--config.")]
    args = parser_of(verb).parse_args(argv)
    if verb != "plan":  # keeps results of its own
        from vilg.program_cache import keep_programs

        keep_programs()
    args.config_arguments = experiment
    config = read_config(experiment) if experiment else None
    with staged(verb, args):
        return module.main(args, config)


def parser_of(verb: str) -> Parser:
    """The parser of a verb's options, with its example at the end of the help."""
    module = importlib.import_module(f"vilg.run.{verb}")
    parser = Parser(
        prog=f"vilg {verb}",
        description=module.__doc__,
        epilog=f"example:\n  vilg {verb} {VERBS[verb].example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = VERBS[verb].config
    if default is not None:
        parser.add_argument(
            "--config",
            metavar="NAME[:size]",
            default=default or None,
            help=f"the experiment, a packaged one{' (%(default)s)' if default else ''} or FILE.py;"
            " --config.path.to.key=value overrides a field",
        )
    module.add_arguments(parser)
    return parser


def usage() -> str:
    """The screen of `vilg --help`."""
    width = max(map(len, VERBS))
    groups = "\n\n".join(
        "\n".join([f"{title}:", *(f"  {n:<{width}}  {v.summary}" for n, v in verbs.items())])
        for title, verbs in GROUPS.items()
    )
    return (
        "vilg: text-to-image and image-to-text generators in JAX, from a laptop to a pod\n\n"
        f"usage: vilg VERB ...\n\n{groups}\n\n"
        f"  vilg train {VERBS['train'].example}\n"
        f"  vilg sample {VERBS['sample'].example}\n\n"
        "vilg VERB --help explains a verb; vilg --version names packages and devices.\n"
        "Overrides of an experiment: --config.training.steps=2000"
    )


if __name__ == "__main__":
    sys.exit(main())
