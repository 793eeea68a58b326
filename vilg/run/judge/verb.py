"""The options of `vilg judge`, and what it does with a study."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from vilg.report.protocols import PROTOCOLS
from vilg.run.judge.inputs import read_models
from vilg.run.judge.report import report
from vilg.run.judge.server import JudgeServer
from vilg.run.judge.study import Study, fingerprint, make_study, read_study, write_study
from vilg.run.judge.votes import Votes
from vilg.run.terminal.outputs import counted
from vilg.types import UserError

HOST, PORT = "127.0.0.1", 8000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.usage = "vilg judge --samples=A,B,... --out=STUDY [options]"
    parser.add_argument(
        "--samples",
        default="",
        help="what each model made, joined by commas; not needed again once STUDY is made",
    )
    parser.add_argument("--out", required=True, metavar="STUDY", help="directory of the study")
    parser.add_argument("--protocol", help=f"{', '.join(PROTOCOLS)} (default: pairs)")
    parser.add_argument("--seed", type=int, help="of the order of items and of sides (default: 0)")
    parser.add_argument(
        "--raters",
        type=int,
        help="how many raters the study takes (default: 5; images: 3); may be raised later",
    )
    parser.add_argument(
        "--common", action="store_true", help="leave out prompts that not all models have"
    )
    parser.add_argument(
        "--port", type=int, help=f"where to serve (default: {PORT}; 0: any free one)"
    )
    parser.add_argument("--host", help=f"address to serve on (default: {HOST}, this machine only)")
    parser.add_argument("--static", action="store_true", help="make the page, do not serve it")
    parser.add_argument(
        "--import",
        dest="imported",
        action="append",
        default=[],
        metavar="FILE",
        help="add a file of votes; repeat for more",
    )
    parser.add_argument(
        "--report", action="store_true", help="print what the votes say and write STUDY/report.json"
    )


def main(args: argparse.Namespace, config: ConfigDict | None) -> int:
    """Makes or opens the study, then serves, imports or reports; the exit code."""
    unserved = {"--static": args.static, "--import": args.imported, "--report": args.report}
    quiet = [option for option, given in unserved.items() if given]
    for name, value in (("port", args.port), ("host", args.host)):
        if quiet and value is not None:
            raise UserError(
                f"{name}={value!r}: nothing is served with {' and '.join(quiet)}; leave it out"
            )
    out = Path(args.out)
    study = open_study(args, out)
    votes = Votes(out / "votes.sqlite", study)
    for file in args.imported:
        print(f"{counted(votes.merge(Path(file)), 'vote')} of {file} in {votes.path}")
    if args.static:
        print(
            f"{counted(len(study.items), 'item')} in {out / 'public'}; send that directory, and add"
            " the votes with --import=FILE"
        )
    if args.report:
        report(out, study, votes.all())
    if not quiet:
        serve(out, study, votes, args.host or HOST, PORT if args.port is None else args.port)
    return 0


def open_study(args: argparse.Namespace, out: Path) -> Study:
    """The study of --out, made if there is none. Errors: UserError for options that do not agree
    with the study that is there.
    """
    if args.protocol is not None and args.protocol not in PROTOCOLS:
        raise UserError(f"protocol={args.protocol!r}: known protocols are {', '.join(PROTOCOLS)}")
    if args.raters is not None and args.raters < 1:
        raise UserError(f"raters={args.raters}: must be at least 1")
    paths = [p for p in args.samples.split(",") if p.strip()]
    study = read_study(out)
    if study is None:
        return new_study(args, out, paths)
    for field, given, stored in (
        ("protocol", args.protocol, study.protocol),
        ("seed", args.seed, study.seed),
    ):
        if given is not None and given != stored:
            raise UserError(
                f"{field}={given!r}: the study in {args.out!r} has {field}={stored!r}; leave it"
                " out, or give another --out"
            )
    if paths:
        models, _ = read_models(paths, study.asks.inputs, args.common or study.left_out > 0)
        if fingerprint(models, study.protocol, study.seed) != study.fingerprint:
            raise UserError(
                f"samples={args.samples!r}: differ from those of the study in {args.out!r}; give"
                " another --out"
            )
    if args.raters is not None and args.raters != study.raters:
        study = dataclasses.replace(study, raters=args.raters)
        write_study(out, study)
    return study


def new_study(args: argparse.Namespace, out: Path, paths: Sequence[str]) -> Study:
    """Makes the study of --out. Errors: UserError where --samples has not enough."""
    if not paths:
        raise UserError(f"out={args.out!r}: holds no study; give --samples=DIR_A,DIR_B to make one")
    name = args.protocol or "pairs"
    asks = PROTOCOLS[name]
    if asks.pairs and len(paths) < 2:
        raise UserError(
            f"samples={args.samples!r}: {name} compares models; give two or more, joined by commas"
        )
    models, left_out = read_models(paths, asks.inputs, args.common)
    out.mkdir(parents=True, exist_ok=True)
    return make_study(out, models, name, args.seed or 0, args.raters or asks.raters, left_out)


def serve(out: Path, study: Study, votes: Votes, host: str, port: int) -> None:
    """Serves the page until Ctrl-C."""
    with JudgeServer(host, port, out / "public", votes) as server:
        begun = len({vote.rater for vote in votes.all()})
        try:
            print(
                f"{counted(len(study.items), 'item')}, {begun} of {counted(study.raters, 'rater')}"
                f" have begun; open {server.address}",
                flush=True,
            )
            print(
                f"Ctrl-C ends; the same command goes on; `vilg judge --out={out} --report` counts",
                flush=True,
            )
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
    print(f"\n{counted(len(votes.all()), 'vote')} in {votes.path}")
