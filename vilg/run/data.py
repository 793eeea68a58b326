"""vilg data ACTION makes, fetches, converts, annotates and shows data.

  synth --n --seed --split --out=DIR         writes synthetic scenes as a folder
  prepare emoji --out=DIR                    fetches a dataset by its name (needs npm)
  convert --source=KIND:PATH --to=KIND:DIR   writes data of any kind as a folder, shards or
                                             webdataset
  annotate --source=KIND:PATH --out=DIR      finds the words of the captions, and adds boxes and
                                             captions from --merge=FILE.jsonl by the records' ids
  rank --source=KIND:PATH --ranker=WORKDIR   writes a .jsonl that says how well each caption goes
                                             with its picture, which data can be filtered on
  show --source=KIND:PATH --out=FILE.png     draws a contact sheet with captions
  stats --source=KIND:PATH                   counts pictures, languages, lengths, sizes and bad
                                             records

KIND is folder, shards, webdataset, tfds, synthetic or emoji. The source's fields follow the path:
synthetic:valid,snap=4,max_objects=2"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vilg.data.annotate import annotate
from vilg.data.convert import WRITERS, convert, stats
from vilg.data.emoji_packages import PACKS
from vilg.data.emoji_prepare import prepare_emoji
from vilg.data.scenes.source import Synthetic
from vilg.data.show import show
from vilg.data.sources import parse_source
from vilg.run.terminal.outputs import output_file
from vilg.types import UserError

BAD_RECORDS = "records that may be unreadable before the action ends with an error"


def say(line: str) -> None:
    """Prints a line on standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def synth_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `synth`."""
    parser.add_argument("--n", type=int, default=1000, help="scenes")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    parser.add_argument(
        "--split", default="train", help="train, valid or test; splits share no scene"
    )
    parser.add_argument("--image_size", type=int, default=32, help="pixels a side")
    parser.add_argument("--max_objects", type=int, default=3, help="objects of a scene")
    parser.add_argument(
        "--snap", type=int, default=0, help="centres on multiples of so many pixels; 0: anywhere"
    )
    parser.add_argument(
        "--to", default="folder", choices=tuple(WRITERS), help="the kind of data set to write"
    )
    parser.add_argument("--out", required=True)


def synth(args: argparse.Namespace) -> dict[str, object]:
    """Writes `n` annotated synthetic scenes as a data set; what was written."""
    if args.n < 1:
        raise UserError(f"n={args.n}: give at least 1")
    scenes = Synthetic(
        annotations=True,
        n=args.n,
        seed=args.seed,
        split=args.split,
        image_size=args.image_size,
        max_objects=args.max_objects,
        snap=args.snap,
    )
    return convert(scenes, args.to, args.out)


def prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `prepare`."""
    parser.add_argument("name", choices=("emoji",))
    parser.add_argument("--out", required=True)
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--styles", default=",".join(PACKS), help="art styles joined by commas")


def prepare(args: argparse.Namespace) -> dict[str, object]:
    """Fetches and draws a data set; what was written."""
    return prepare_emoji(
        args.out, args.size, tuple(args.styles.split(",")), log=lambda line: print(line, flush=True)
    )


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `convert`."""
    parser.add_argument("--source", required=True, metavar="KIND:PATH")
    parser.add_argument(
        "--to", required=True, metavar="KIND:DIR", help=f"KIND one of {', '.join(WRITERS)}"
    )
    parser.add_argument("--bad_record_limit", type=int, default=100, help=BAD_RECORDS)


def convert_data(args: argparse.Namespace) -> dict[str, object]:
    """Reads data of one kind and writes another kind; what was written."""
    kind, colon, out = args.to.partition(":")
    if not colon or not out or kind not in WRITERS:
        raise UserError(f"to={args.to!r}: give KIND:DIR with KIND one of {', '.join(WRITERS)}")
    return convert(parse_source(args.source), kind, out, args.bad_record_limit)


def annotate_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `annotate`."""
    parser.add_argument("--source", required=True, metavar="KIND:PATH")
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="a new data set, or a .jsonl of the annotations alone",
    )
    parser.add_argument(
        "--to", default="folder", choices=tuple(WRITERS), help="the kind of data set to write"
    )
    merge = (
        "lines of boxes (xyxy in [0, 1], label, score) or captions by id, from a detector, a"
        " captioner or vilg caption; repeatable"
    )
    parser.add_argument(
        "--merge", action="extend", nargs="+", default=[], metavar="FILE.jsonl", help=merge
    )
    parser.add_argument("--bad_record_limit", type=int, default=100, help=BAD_RECORDS)


def annotate_data(args: argparse.Namespace) -> dict[str, object]:
    """Tags the words of captions and merges annotations of other models; what was written."""
    source = parse_source(args.source)
    return annotate(
        source,
        args.out,
        args.merge,
        args.to,
        args.bad_record_limit,
        log=say,
    )


def rank_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `rank`."""
    parser.add_argument("--source", required=True, metavar="KIND:PATH")
    parser.add_argument(
        "--ranker",
        required=True,
        metavar="WORKDIR",
        help="a dual encoder's run (experiments/ranker.py)",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE.jsonl",
        help="a line a record: its id, and text, language and cosine of each caption",
    )
    parser.add_argument("--bad_record_limit", type=int, default=100, help=BAD_RECORDS)


def rank_data(args: argparse.Namespace) -> dict[str, object]:
    """Scores captions by a ranker; what was written."""
    from vilg.workdir.reranking import rank_records
    from vilg.workdir.session import open_ranker  # loads JAX, which the other actions do not need

    source, out = parse_source(args.source), output_file(args.out, ".jsonl")
    say(f"vilg data rank: opening {args.ranker}")
    return rank_records(
        source, open_ranker(args.ranker), args.ranker, out, args.bad_record_limit, log=say
    )


def show_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `show`."""
    parser.add_argument("--source", required=True, metavar="KIND:PATH")
    parser.add_argument("--out", required=True, metavar="FILE.png")
    parser.add_argument("--n", type=int, default=36, help="pictures")
    parser.add_argument("--columns", type=int, default=6, help="pictures side by side")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pictures")


def show_data(args: argparse.Namespace) -> dict[str, object]:
    """Draws a contact sheet; what was drawn."""
    return show(parse_source(args.source), args.out, n=args.n, columns=args.columns, seed=args.seed)


def stats_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `stats`."""
    parser.add_argument("--source", required=True, metavar="KIND:PATH")
    parser.add_argument("--n", type=int, default=1000, help="records looked at")


def stats_data(args: argparse.Namespace) -> dict[str, object]:
    """Counts pictures, captions and bad records."""
    if args.n < 1:
        raise UserError(f"n={args.n}: give at least 1")
    return stats(parse_source(args.source), args.n)


class Action(NamedTuple):
    """An action of the verb: its options, what it does (the result is printed as JSON), and a line
    for the help.
    """

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], dict[str, Any]]
    summary: str


ACTIONS: dict[str, Action] = {
    "synth": Action(synth_arguments, synth, "synthetic scenes as a data set"),
    "prepare": Action(prepare_arguments, prepare, "fetch a data set by its name"),
    "convert": Action(convert_arguments, convert_data, "between kinds of data set"),
    "annotate": Action(
        annotate_arguments, annotate_data, "words of captions; boxes and captions of other models"
    ),
    "rank": Action(rank_arguments, rank_data, "how well captions go with their pictures"),
    "show": Action(show_arguments, show_data, "a contact sheet with captions"),
    "stats": Action(stats_arguments, stats_data, "counts, languages, lengths, sizes"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True)
    for name, action in ACTIONS.items():
        action.add_arguments(
            actions.add_parser(name, help=action.summary, description=action.summary)
        )


def main(args: argparse.Namespace, config: ConfigDict | None) -> int:
    """Runs an action and prints its result as JSON; the exit code."""
    result = ACTIONS[args.action].run(args)
    if result:
        print(json.dumps(result, ensure_ascii=False, indent=1))
    return 0
