"""vilg sample: images from prompts.

Writes OUT/*.png, OUT/grid.png and OUT/samples.jsonl (prompt, file, seed, language, score,
truncated, options; suite, id, category, source). A picture depends on its prompt, the seed and the
options alone. Sampler's options that are not given are those of the config's first evaluator that
samples. With --best_of=N each picture is the one of N that --ranker finds best; `candidates` has
the scores of all N."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vilg.data.prompts import Prompt, read_prompts
from vilg.data.records import LANGUAGES, detect_language
from vilg.data.styles import find_style, style_table, styled
from vilg.data.suite_table import SUITES
from vilg.data.suites import FIELDS, of_categories, read_suite, suite_table
from vilg.experiment import Experiment
from vilg.run.terminal.outputs import counted
from vilg.run.terminal.progress import Evaluations
from vilg.types import Stepwise, UserError
from vilg.workdir.painting import Painting, prepare
from vilg.workdir.reranking import best_of, check_request
from vilg.workdir.samples import samples_of, write_samples
from vilg.workdir.session import Sampled, Session, open_ranker, open_session

# The union of the options that generators' controls have: type and meaning. `first` is --strength.
CONTROLS: dict[str, tuple[type, str]] = {
    "guidance": (float, "classifier-free guidance; 1 is none"),
    "temperature": (float, "of tokens or ids; 0 takes the likeliest"),
    "top_k": (int, "keep the k likeliest tokens (0: all)"),
    "top_p": (float, "keep the likeliest tokens of this mass (1: all)"),
    "rescale": (float, "guided outputs to their deviation unguided, 0 to 1"),
    "sampler": (str, "ddim, ddpm, euler, heun, dpmpp_2m or unipc"),
    "steps": (int, "steps of the sampler"),
    "eta": (float, "noise of ddim, 0 to 1"),
    "spacing": (str, "of the steps in time: trailing, leading or linspace"),
    "last": (float, "no evaluation at a t below it"),
}


class Listed(argparse.Action):
    """--style=list and --prompts=list print a table and end; any other value is kept."""

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
    """The verb's options."""
    # all of them twice would not fit a screen
    parser.usage = "vilg sample --workdir=DIR --prompt=TEXT --out=DIR [options]"
    parser.add_argument("--workdir", required=True, help="a generator's run")
    parser.add_argument("--prompt", action="append", default=[], help="a prompt; repeat for more")
    parser.add_argument(
        "--prompts",
        action=Listed,
        metavar="FILE",
        help="or the name of a suite: --prompts=list prints them",
    )
    parser.add_argument(
        "--column", default="", help="the column of --prompts that holds the prompt"
    )
    parser.add_argument(
        "--language", default="", metavar="zh,en", help="only the prompts of --prompts in it"
    )
    parser.add_argument(
        "--category",
        action="append",
        default=[],
        help="only the prompts of --prompts of it; repeat for more",
    )
    parser.add_argument(
        "--style",
        default="",
        action=Listed,
        help="words after each prompt: --style=list prints them",
    )
    parser.add_argument("--out", required=True, help="directory for the pictures")
    parser.add_argument("--num", type=int, default=1, help="pictures a prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--best_of",
        type=int,
        metavar="N",
        help="draw N for each picture and keep the one that --ranker likes best",
    )
    parser.add_argument(
        "--ranker",
        default="",
        metavar="WORKDIR",
        help="a dual encoder's run (experiments/ranker.py)",
    )
    controls = parser.add_argument_group("the sampler's options (a generator has some of them)")
    for name, (kind, what) in CONTROLS.items():
        controls.add_argument(f"--{name}", type=kind, help=what)
    stepwise = parser.add_argument_group("generators that sample step by step")
    stepwise.add_argument("--negative", help="what to keep away from; needs guidance other than 1")
    stepwise.add_argument("--init", default="", help="a picture to start from")
    stepwise.add_argument(
        "--strength", type=float, help="share of --init painted over (0.7; with --mask 1)"
    )
    stepwise.add_argument(
        "--mask", default="", help="as large as --init: white is painted, black is kept"
    )
    stepwise.add_argument(
        "--paste", action="store_true", help="what --mask keeps is --init's, not the codec's copy"
    )
    stepwise.add_argument("--height", type=int, help="pixels (default: the codec's)")
    stepwise.add_argument("--width", type=int, help="pixels (default: the codec's)")
    stepwise.add_argument(
        "--swap_experts",
        action="store_true",
        help="experts one by one on the devices, the rest on the host",
    )
    parser.add_argument(
        "--raw", action="store_true", help="the last parameters instead of their moving average"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress line")


def controls_of(experiment: Experiment, given: Mapping[str, Any]) -> Any:
    """The given options over the config's. Errors: UserError for one that this generator does not
    have, or a wrong value.
    """
    return experiment.generator.controls({**dataclasses.asdict(experiment.controls), **given})


def main(args: argparse.Namespace, config: Any) -> int:
    """Samples and writes."""
    if args.num < 1:
        raise UserError(f"num={args.num}: give at least 1 picture a prompt")
    check_request(args.best_of, args.ranker)
    number = args.num * (args.best_of or 1)
    if not 0 <= args.seed <= 2**32 - number:
        raise UserError(
            f"seed={args.seed}: must be from 0 to 2**32 - num{' x best_of' if args.best_of else ''}"
        )
    painting = Painting(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Painting)})
    style = find_style(args.style) if args.style else None
    prompts = asked_prompts(args)
    texts = [p.text if style is None else styled(p.text, p.language, style) for p in prompts]
    out = Path(args.out)
    samples_of(out)  # a list that is somebody else's is told before anything is drawn
    session = open_session(
        args.workdir, ema=not args.raw, **({"swap": True} if args.swap_experts else {})
    )
    session.check_generator()
    generator = session.experiment.generator
    ranker = open_ranker(args.ranker, {p.language for p in prompts}) if args.ranker else None
    special = painting.asked | {
        n: getattr(args, n) for n in ("negative", "swap_experts") if getattr(args, n)
    }
    if special and not isinstance(generator, Stepwise):
        name, value = next(iter(special.items()))
        raise UserError(
            f"{name}={value!r}: this run's generator does not sample step by step; give the workdir"
            " of one that does (diffusion)"
        )
    given = {n: getattr(args, n) for n in CONTROLS if getattr(args, n) is not None}
    painting.check(given.get("last", getattr(session.experiment.controls, "last", 0.0)))
    controls = controls_of(session.experiment, given | painting.first)
    canvas = prepare(painting, session)
    inputs = canvas.rows(len(prompts)) | negatives(args.negative, controls, session, len(prompts))
    out.mkdir(parents=True, exist_ok=True)
    with Evaluations("sample", args.quiet) as watch:
        made = session.sample(
            texts,
            controls,
            args.seed,
            [p.language for p in prompts],
            number=number,
            inputs=inputs,
            grid=canvas.grid,
            watch=watch,
        )
    made = [dataclasses.replace(m, image=canvas.finished(m.image)) for m in made]
    if ranker is not None:
        made = best_of(made, args.best_of, ranker)
    shown = [p.text for p in prompts for _ in range(args.num)]
    made = [dataclasses.replace(m, prompt=text) for m, text in zip(made, shown, strict=True)]
    used = (
        {"controls": dataclasses.asdict(controls)}
        | ({"style": args.style} if style else {})
        | special
    )
    used |= {"best_of": args.best_of, "ranker": args.ranker} if args.ranker else {}
    lines = [
        {k: p.extra[k] for k in FIELDS if k in p.extra} | used
        for p in prompts
        for _ in range(args.num)
    ]
    write_samples(out, made, args.num if args.num > 1 else min(8, len(made)), lines)
    warn_of_cuts(made, session)
    print(f"{counted(len(made), 'picture')} in {args.out}, step {session.step} of {args.workdir}")
    return 0


def asked_prompts(args: argparse.Namespace) -> list[Prompt]:
    """The prompts of --prompt and --prompts. Errors: UserError for none, an empty one, or bytes
    that are no text.
    """
    for name in ("column", "language", "category"):
        if getattr(args, name) and not args.prompts:
            raise UserError(
                f"{name}={getattr(args, name)!r}: chooses among --prompts=FILE; give that too"
            )
    prompts = [Prompt(p, detect_language(p), {}) for p in args.prompt]
    if args.prompts:
        prompts += chosen_prompts(args.prompts, args.column, args.language, args.category)
    if not prompts or any(not p.text.strip() for p in prompts):
        raise UserError("prompt is empty: give --prompt=TEXT (repeatable) or --prompts=FILE")
    for name, text in (*(("prompt", p.text) for p in prompts), ("negative", args.negative or "")):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"{name}={text!r}: is not UTF-8; give text in that encoding") from None
    return prompts


def chosen_prompts(
    source: str, column: str, language: str, categories: Sequence[str]
) -> list[Prompt]:
    """The prompts of a file, or those of a suite in the languages (joined by commas) and of the
    categories that were asked for.
    """
    if source not in SUITES and not language and not categories and Path(source).suffix:
        return read_prompts(source, column)
    languages = tuple(language.split(",")) if language else ()
    for one in languages:
        if one not in LANGUAGES:
            raise UserError(f"language={one!r}: known languages are {', '.join(LANGUAGES)}")
    return of_categories(read_suite(source, column, languages), categories)


def negatives(
    negative: str | None, controls: Any, session: Session, n: int
) -> dict[str, np.ndarray]:
    """The ids of the negative prompt for each of n prompts. Errors: UserError where nothing would
    come of it.
    """
    if negative is None:
        return {}
    if not negative.strip():
        raise UserError(f"negative={negative!r}: is empty; give text, or leave it out")
    if controls.guidance == 1:
        raise UserError(
            f"negative={negative!r}: guidance=1 pushes away from nothing; give --guidance above 1"
        )
    ids, cut = session.text_ids(negative, detect_language(negative))
    if cut:
        print(
            "vilg sample: cut the negative prompt, longer than"
            f" data.text.length={session.experiment.data.text.length}",
            file=sys.stderr,
        )
    return {"negative": np.repeat(ids[None], n, 0)}


def warn_of_cuts(made: Sequence[Sampled], session: Session) -> None:
    """A line about prompts that were too long."""
    cut = list(dict.fromkeys(m.prompt for m in made if m.truncated))
    if cut:
        length = session.experiment.data.text.length
        print(
            f"vilg sample: cut {counted(len(cut), 'prompt')} longer than data.text.length={length},"
            f" the first: {cut[0]!r}",
            file=sys.stderr,
        )
