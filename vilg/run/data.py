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
from typing import Any

from vilg.data.annotate import annotate
from vilg.data.convert import WRITERS, convert, stats
from vilg.data.emoji_packages import PACKS
from vilg.data.emoji_prepare import prepare_emoji
from vilg.data.scenes.source import Synthetic
from vilg.data.show import show
from vilg.data.sources import parse_source
from vilg.run.terminal.outputs import output_file
from vilg.types import UserError


def synth_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `synth`."""
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--split", default="train", help="train, valid or test; splits share no scene"
    )
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--max_objects", type=int, default=3)
    parser.add_argument(
        "--snap", type=int, default=0, help="centres on multiples of so many pixels; 0: anywhere"
    )
    parser.add_argument(
        "--to", default="folder", choices=tuple(WRITERS), help="the kind of data set to write"
    )
    parser.add_argument("--out", required=True)


def synth(args: argparse.Namespace) -> dict[str, Any]:
    """Writes n annotated scenes."""
    if args.n < 1:
        raise UserError(f"n={args.n}: give at least 1")
    names = ("n", "seed", "split", "image_size", "max_objects", "snap")
    return convert(
        Synthetic(annotations=True, **{n: getattr(args, n) for n in names}), args.to, args.out
    )


def prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `prepare`."""
    parser.add_argument("name", choices=("emoji",))
    parser.add_argument("--out", required=True)
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--styles", default=",".join(PACKS), help="art styles joined by commas")


def prepare(args: argparse.Namespace) -> dict[str, Any]:
    """Fetches and draws."""
    return prepare_emoji(
        args.out, args.size, tuple(args.styles.split(",")), log=lambda line: print(line, flush=True)
    )


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `convert`."""
    parser.add_argument("--source", required=True, metavar="KIND:PATH")
    parser.add_argument(
        "--to", required=True, metavar="KIND:DIR", help=f"KIND one of {', '.join(WRITERS)}"
    )
    parser.add_argument("--bad_record_limit", type=int, default=100)


def convert_data(args: argparse.Namespace) -> dict[str, Any]:
    """Reads one kind, writes another."""
    kind, colon, out = args.to.partition(":")
    if not colon or not out or kind not in WRITERS:
        raise UserError(f"to={args.to!r}: give KIND:DIR with KIND one of {', '.join(WRITERS)}")
    return convert(parse_source(args.source), kind, out, args.bad_record_limit)


def annotate_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `annotate`."""
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
    parser.add_argument("--bad_record_limit", type=int, default=100)


def annotate_data(args: argparse.Namespace) -> dict[str, Any]:
    """Tags words and merges what other models say."""
    source = parse_source(args.source)
    return annotate(
        source,
        args.out,
        args.merge,
        args.to,
        args.bad_record_limit,
        log=lambda line: print(line, file=sys.stderr, flush=True),
    )


def rank_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `rank`."""
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
    parser.add_argument("--bad_record_limit", type=int, default=100)


def rank_data(args: argparse.Namespace) -> dict[str, Any]:
    """Scores captions by a ranker."""
    from vilg.workdir.reranking import rank_records
    from vilg.workdir.session import open_ranker  # starts JAX, which the other actions do without

    source, out = parse_source(args.source), output_file(args.out, ".jsonl")
    log = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    return rank_records(
        source, open_ranker(args.ranker), args.ranker, out, args.bad_record_limit, log=log
    )


def show_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `show`."""
    parser.add_argument("--source", required=True, metavar="KIND:PATH")
    parser.add_argument("--out", required=True, metavar="FILE.png")
    parser.add_argument("--n", type=int, default=36)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)


def show_data(args: argparse.Namespace) -> dict[str, Any]:
    """Draws a contact sheet."""
    return show(parse_source(args.source), args.out, n=args.n, columns=args.columns, seed=args.seed)


def stats_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `stats`."""
    parser.add_argument("--source", required=True, metavar="KIND:PATH")
    parser.add_argument("--n", type=int, default=1000, help="records looked at")


def stats_data(args: argparse.Namespace) -> dict[str, Any]:
    """Counts."""
    if args.n < 1:
        raise UserError(f"n={args.n}: give at least 1")
    return stats(parse_source(args.source), args.n)


ACTIONS: dict[str, tuple[Callable, Callable, str]] = {
    "synth": (synth_arguments, synth, "synthetic scenes as a data set"),
    "prepare": (prepare_arguments, prepare, "fetch a data set by package name"),
    "convert": (convert_arguments, convert_data, "between kinds of data set"),
    "annotate": (
        annotate_arguments,
        annotate_data,
        "words of captions; boxes and captions of other models",
    ),
    "rank": (rank_arguments, rank_data, "how well captions go with their pictures, by a ranker"),
    "show": (show_arguments, show_data, "a contact sheet with captions"),
    "stats": (stats_arguments, stats_data, "counts, languages, lengths, sizes"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True)
    for name, (arguments, _, what) in ACTIONS.items():
        arguments(actions.add_parser(name, help=what, description=what))


def main(args: argparse.Namespace, config: Any) -> int:
    """Runs an action and prints what it did as JSON."""
    result = ACTIONS[args.action][1](args)
    if result:
        print(json.dumps(result, ensure_ascii=False, indent=1))
    return 0
