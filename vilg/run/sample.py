"""vilg sample: images from prompts.

Writes OUT/*.png, OUT/grid.png and OUT/samples.jsonl (prompt, file, seed, language, score,
truncated, options; suite, id, category, source). A picture depends only on its prompt, the seed and
the options. A sampling option that the command line leaves out has the value of the config's first
evaluator that samples. With --best_of=N each picture is the one of N that --ranker scores highest;
`candidates` in samples.jsonl has the scores of all N."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vilg.api import load
from vilg.data.prompts import Prompt, read_prompts
from vilg.data.records import check_known_languages, detect_language
from vilg.data.styles import find_style, style_table
from vilg.data.suite_table import SUITES
from vilg.data.suites import FIELDS, of_categories, read_suite, suite_table
from vilg.generators.options import SAMPLING_OPTIONS
from vilg.run.terminal.outputs import counted
from vilg.run.terminal.progress import Evaluations
from vilg.types import Generator, UserError
from vilg.workdir.painting import Painting
from vilg.workdir.request import Request
from vilg.workdir.samples import samples_of, write_samples
from vilg.workdir.session import Sampled, Session
from vilg.workdir.trace import write_trace

# The option `first`, the time at which sampling begins, is set by --strength instead.
OPTIONS = {o.name: o for o in SAMPLING_OPTIONS.values() if o.on_command_line}


class Listed(argparse.Action):
    """--style=list and --prompts=list print a table and exit; any other value is stored."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if values == "list":
            print({"style": style_table, "prompts": suite_table}[self.dest]())
            parser.exit()
        setattr(namespace, self.dest, values)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    # The usage line names the main options only: all options are listed below it.
    parser.usage = "vilg sample --workdir=DIR --prompt=TEXT --out=DIR [options]"
    parser.add_argument("--workdir", required=True, help="workdir of a generator's run")
    _add_prompt_options(parser)
    parser.add_argument("--out", required=True, help="directory for the pictures")
    parser.add_argument("--num", type=int, default=1, help="pictures of each prompt")
    parser.add_argument("--seed", type=int, default=0, help="seed of the pictures")
    parser.add_argument(
        "--best_of",
        type=int,
        metavar="N",
        help="samples N for each picture and keeps the one that --ranker scores highest",
    )
    parser.add_argument(
        "--ranker",
        default="",
        metavar="WORKDIR",
        help="workdir of a dual encoder's run (experiments/ranker.py)",
    )
    controls = parser.add_argument_group("options of the sampler (each generator has some of them)")
    for option in OPTIONS.values():
        controls.add_argument(f"--{option.name}", type=option.type, help=option.help)
    _add_stepwise_options(parser)
    parser.add_argument(
        "--trace",
        type=int,
        default=0,
        metavar="N",
        help="N moments of sampling as trace.png and trace.gif (grey: codes not known yet)",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="uses the last parameters instead of their moving average",
    )
    parser.add_argument("--quiet", action="store_true", help="prints no progress line")


def _add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that select the prompts."""
    parser.add_argument("--prompt", action="append", default=[], help="a prompt; repeat for more")
    parser.add_argument(
        "--prompts",
        action=Listed,
        metavar="FILE",
        help="file of prompts or name of a suite; --prompts=list prints the suites",
    )
    parser.add_argument(
        "--column", default="", help="the column of --prompts that holds the prompt"
    )
    parser.add_argument(
        "--language",
        default="",
        metavar="zh,en",
        help="only the prompts of --prompts in these languages",
    )
    parser.add_argument(
        "--category",
        action="append",
        default=[],
        help="only the prompts of --prompts of this category; repeat for more",
    )
    parser.add_argument(
        "--style",
        default="",
        action=Listed,
        help="style whose words are added to each prompt; --style=list prints all",
    )


def _add_stepwise_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of generators that sample step by step (vilg/types.py:Stepwise)."""
    stepwise = parser.add_argument_group("generators that sample step by step")
    stepwise.add_argument(
        "--negative", help="text of what the picture should avoid; needs guidance other than 1"
    )
    stepwise.add_argument("--init", default="", help="a picture to start from")
    stepwise.add_argument(
        "--strength",
        type=float,
        help="noise added to --init, up to 1, which hides it (0.7; with --mask 1)",
    )
    stepwise.add_argument(
        "--mask",
        default="",
        help="a picture of the size of --init: white parts are painted, black parts stay",
    )
    stepwise.add_argument(
        "--paste",
        action="store_true",
        help="copies the black parts of --mask from --init instead of decoding them",
    )
    stepwise.add_argument("--height", type=int, help="pixels (default: the codec's image size)")
    stepwise.add_argument("--width", type=int, help="pixels (default: the codec's image size)")
    stepwise.add_argument(
        "--swap_experts",
        action="store_true",
        help="holds one expert at a time on the devices, the other experts on the host",
    )


def main(args: argparse.Namespace, config: object) -> int:
    """Samples the pictures and writes them with their list."""
    prompts = asked_prompts(args)
    out = Path(args.out)
    samples_of(out)  # refuses a samples.jsonl that cannot be extended, before any sampling
    request = Request(
        [p.text for p in prompts],
        [p.language for p in prompts],
        args.num,
        args.seed,
        args.negative,
        find_style(args.style) if args.style else None,
        Painting(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Painting)}),
        {n: getattr(args, n) for n in OPTIONS if getattr(args, n) is not None},
        args.best_of,
        args.ranker,
        args.trace,
    )
    session = load(args.workdir, ema=not args.raw, swap_experts=args.swap_experts).session
    session.require(Generator)
    used = {"controls": dataclasses.asdict(request.controls(session))}
    used |= {"style": args.style} if args.style else {}
    used |= request.stepwise_options() | ({"swap_experts": True} if args.swap_experts else {})
    used |= {"best_of": args.best_of, "ranker": args.ranker} if args.ranker else {}
    with Evaluations("sample", args.quiet) as watch:
        samples = request.draw(session, watch)
    out.mkdir(parents=True, exist_ok=True)
    lines = [
        {k: p.extra[k] for k in FIELDS if k in p.extra} | used
        for p in prompts
        for _ in range(args.num)
    ]
    write_samples(out, samples, args.num if args.num > 1 else min(8, len(samples)), lines)
    if args.trace:
        write_trace(out, [sample.trace for sample in samples])
    warn_of_cuts(samples, session)
    pictures = counted(len(samples), "picture")
    print(f"{pictures} in {args.out}, step {session.step} of {args.workdir}")
    return 0


def asked_prompts(args: argparse.Namespace) -> list[Prompt]:
    """The prompts of --prompt and --prompts.

    Errors: UserError for an option that selects from --prompts where --prompts is missing."""
    for name in ("column", "language", "category"):
        if getattr(args, name) and not args.prompts:
            raise UserError(
                f"{name}={getattr(args, name)!r}: selects from --prompts=FILE; give --prompts too"
            )
    prompts = [Prompt(p, detect_language(p), {}) for p in args.prompt]
    if args.prompts:
        prompts += chosen_prompts(args.prompts, args.column, args.language, args.category)
    return prompts


def chosen_prompts(
    source: str, column: str, language: str, categories: Sequence[str]
) -> list[Prompt]:
    """The prompts of a file, or the prompts of a suite in the languages (joined by commas) and of
    the categories that the user names."""
    if source not in SUITES and not language and not categories and Path(source).suffix:
        return read_prompts(source, column)
    languages = tuple(language.split(",")) if language else ()
    check_known_languages(languages)
    return of_categories(read_suite(source, column, languages), categories)


def warn_of_cuts(samples: Sequence[Sampled], session: Session) -> None:
    """Prints a line about prompts that were longer than the model's text length."""
    cut = list(dict.fromkeys(s.prompt for s in samples if s.truncated))
    if cut:
        length = session.experiment.data.text.length
        print(
            f"vilg sample: cut {counted(len(cut), 'prompt')} longer than data.text.length={length},"
            f" the first: {cut[0]!r}",
            file=sys.stderr,
        )
