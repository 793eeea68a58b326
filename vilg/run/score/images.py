"""vilg score images: how near a folder of pictures is to a reference, and how well it fits its
prompts; no run of vilg's is needed.

  --extractor=inception --weights=FILE.pth   FID, KID, IS, precision, recall, density and coverage
                                             as others report them
  --extractor=clip --weights=FILE            CLIP-score, and the distances in CLIP's space, named
                                             "FID(clip)"
  --ranker=WORKDIR                           the same by a ranker that you trained, named
                                             "FID(ranker)": comparable only with itself

--reference is a folder, or statistics in an .npz (from --save_statistics or from pytorch-fid), with
which only FID and IS can be computed. CLIP-score needs the prompts: samples.jsonl beside the
pictures, or --prompts, whose rows name a file or are in the order of the sorted pictures.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vilg.config import lookup
from vilg.data.prompts import Prompt, read_prompts
from vilg.metrics.frechet import small_set_warning
from vilg.metrics.resize import RESIZES
from vilg.metrics.statistics import FeatureStatistics, UncountedStatistics
from vilg.run.score.extractors import Clip, Extractor, Inception, TextExtractor, ranker_extractor
from vilg.run.score.metrics import METRICS, Compared
from vilg.run.score.picture_set import PictureSet, check_identity, collect, reference_set
from vilg.run.terminal.inputs import find_images
from vilg.run.terminal.outputs import output_file
from vilg.run.terminal.progress import Evaluations
from vilg.types import UserError
from vilg.workdir.files import versions

EXTRACTORS = ("inception", "clip")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The action's options."""
    parser.add_argument(
        "--images",
        required=True,
        help="the pictures to score: a directory or a glob; sizes may differ",
    )
    parser.add_argument(
        "--reference",
        default="",
        help="a directory or glob of real pictures, or statistics in an .npz",
    )
    parser.add_argument(
        "--extractor",
        default="",
        help=f"{' or '.join(EXTRACTORS)} (default: inception, unless --ranker is given)",
    )
    parser.add_argument(
        "--weights",
        default="",
        help="its weights: .pth, .safetensors or .npz; CLIP's with config.json beside them",
    )
    parser.add_argument(
        "--clip_tokenizer", default="", help="tokenizer.json (default: the one beside --weights)"
    )
    parser.add_argument(
        "--ranker",
        default="",
        metavar="WORKDIR",
        help="a ranker's run in place of a public network",
    )
    parser.add_argument(
        "--prompts", default="", help="the pictures' prompts (default: samples.jsonl in --images)"
    )
    parser.add_argument(
        "--column", default="", help="the column of --prompts that holds the prompt"
    )
    parser.add_argument(
        "--metrics",
        default="",
        help=f"of {', '.join(METRICS)}, joined by commas (default: all that can be had)",
    )
    parser.add_argument(
        "--resize", default="", help=f"inception's: {' or '.join(RESIZES)} (default pytorch_fid)"
    )
    parser.add_argument("--batch", type=int, default=32, help="pictures computed at once")
    parser.add_argument("--seed", type=int, default=0, help="of KID's subsets and IS's splits")
    parser.add_argument(
        "--save_statistics",
        default="",
        metavar="FILE.npz",
        help="keep the statistics of the folder --reference",
    )
    parser.add_argument("--out", required=True, help="a .json file")
    parser.add_argument("--quiet", action="store_true", help="no progress line")


def main(args: argparse.Namespace, config: Any) -> int:
    """Scores, prints a table and writes the JSON."""
    out = output_file(args.out, ".json")
    saved = (
        output_file(args.save_statistics, ".npz", "save_statistics")
        if args.save_statistics
        else None
    )
    paths = find_images(args.images)
    stored = args.reference.endswith(".npz")
    references = find_images(args.reference, "reference") if args.reference and not stored else []
    check(args, stored)
    statistics = FeatureStatistics.load(args.reference) if stored else None
    extractor = open_extractor(args)
    prompts = prompts_of(paths, args)
    asked = chosen(args.metrics, extractor, bool(references), stored, bool(prompts))
    groups = {name: METRICS[name] for name in asked}
    keep = sorted({what for group in groups.values() for what in group.keeps})
    shared = [
        what
        for what in keep
        if what == "features" and any(g.reference and what in g.keeps for g in groups.values())
    ]
    warnings = (
        [check_identity(statistics, extractor, args.reference)] if statistics is not None else []
    )
    with Evaluations("reference", args.quiet) as watch:
        real = reference_set(extractor, references, shared, watch) if references else None
    if statistics is not None:
        real = PictureSet(statistics)
    if saved is not None and real is not None:
        real.statistics.save(saved)
    with Evaluations("images", args.quiet) as watch:
        made = collect(extractor, paths, keep, "images", watch)
    sets = Compared(
        made, real, extractor, [prompts[p] for p in made.paths] if prompts else [], args.seed
    )
    metrics: dict[str, float] = {}
    protocol: dict[str, Any] = {}
    for group in dict.fromkeys(groups.values()):
        values, details, said = group.compute(sets)
        names = [name for name in asked if groups[name] is group]
        metrics |= {
            labelled(k, extractor): v
            for k, v in values.items()
            if k.removesuffix("_deviation") in names
        }
        protocol |= {labelled(name, extractor): details for name in names}
        warnings += said
    warnings += set_warnings(made, real, any(name == "FID" for name in asked), extractor.width)
    warnings = [w for w in dict.fromkeys(warnings) if w]
    protocol |= {
        "images": args.images,
        "n": made.statistics.count,
        "skipped": len(made.skipped),
        "reference": args.reference or None,
        "n_reference": (
            None
            if real is None or isinstance(real.statistics, UncountedStatistics)
            else real.statistics.count
        ),
        "skipped_reference": 0 if real is None else len(real.skipped),
        "extractor": extractor.protocol() | {"features": extractor.width},
        "versions": versions(),
    }
    for line in (*made.skipped, *(real.skipped if real else ())):
        print(f"vilg score images: skipped {line}", file=sys.stderr)
    for line in warnings:
        print(f"vilg score images: {line}", file=sys.stderr)
    result = {"metrics": metrics, "protocol": protocol, "warnings": warnings}
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False))
    table = Table(
        "metric",
        "value",
        title=f"{args.images} against {args.reference or 'nothing'}, {extractor.name}",
    )
    for name, value in metrics.items():
        table.add_row(name, f"{value:.5g}")
    Console().print(table)
    return 0


def check(args: argparse.Namespace, stored: bool) -> None:
    """Options that do not go together. Errors: UserError."""
    if args.extractor and args.ranker:
        raise UserError(
            f"ranker={args.ranker!r}: takes the place of --extractor={args.extractor}; give one of"
            " them"
        )
    if args.extractor and args.extractor not in EXTRACTORS:
        lookup(dict.fromkeys(EXTRACTORS), args.extractor, "extractor")
    if args.ranker and args.weights:
        raise UserError(
            f"weights={args.weights!r}: a ranker's run has its own; leave it out, or leave"
            " --ranker out"
        )
    if not args.ranker and not args.weights:
        raise UserError(
            "weights is empty: vilg ships no network; give --weights=FILE (inception or clip), or"
            " --ranker=WORKDIR"
        )
    if args.resize and (args.ranker or args.extractor == "clip"):
        raise UserError(f"resize={args.resize!r}: only inception has a choice; leave it out")
    if args.clip_tokenizer and args.extractor != "clip":
        raise UserError(
            f"clip_tokenizer={args.clip_tokenizer!r}: needs --extractor=clip; leave it out"
        )
    if args.column and not args.prompts:
        raise UserError(f"column={args.column!r}: names a column of --prompts=FILE; give that too")
    if args.batch < 1:
        raise UserError(f"batch={args.batch}: give at least 1")
    if args.save_statistics and (not args.reference or stored):
        raise UserError(
            f"save_statistics={args.save_statistics!r}: keeps those of a folder; give"
            " --reference=DIR"
        )


def open_extractor(args: argparse.Namespace) -> Extractor:
    """The extractor that the options ask for."""
    if args.ranker:
        return ranker_extractor(args.ranker)
    if args.extractor == "clip":
        return Clip(args.weights, args.batch, args.clip_tokenizer)
    return Inception(args.weights, args.resize or "pytorch_fid", args.batch)


def chosen(
    names: str, extractor: Extractor, folder: bool, stored: bool, prompts: bool
) -> list[str]:
    """The metrics to compute: those asked for, else all that there can be. Errors: UserError for
    one that lacks something.
    """
    lacking: dict[str, str] = {}
    for name, group in METRICS.items():
        if "probabilities" in group.keeps and not extractor.classes:
            lacking[name] = (
                f"needs a classifier, which {extractor.name} is not; use --extractor=inception"
            )
        elif group.reference and not (folder or stored):
            lacking[name] = "needs --reference=DIR"
        elif group.reference and stored and group.keeps:
            lacking[name] = (
                "needs the features of the reference, which statistics do not hold; give"
                " --reference=DIR"
            )
        elif group.texts and not isinstance(extractor, TextExtractor):
            lacking[name] = (
                f"needs features of texts, which {extractor.name} has not; use --extractor=clip or"
                " --ranker=WORKDIR"
            )
        elif group.texts and not prompts:
            lacking[name] = "needs the pictures' prompts; give --prompts=FILE"
    if not names:
        found = [name for name in METRICS if name not in lacking]
        if not found:
            raise UserError(
                f"metrics is empty: FID {lacking['FID']}, CLIP-score {lacking['CLIP-score']}"
            )
        return found
    asked = list(dict.fromkeys(names.split(",")))
    for name in asked:
        lookup(METRICS, name, "metrics")
        if name in lacking:
            raise UserError(f"metrics={name!r}: {lacking[name]}")
    return asked


def prompts_of(paths: Sequence[Path], args: argparse.Namespace) -> dict[Path, Prompt]:
    """Each picture's prompt; nothing where there are no prompts. Errors: UserError for a picture
    without, with the count.
    """
    place = Path(args.images)
    file = Path(args.prompts) if args.prompts else place / "samples.jsonl"
    if not args.prompts and not (place.is_dir() and file.is_file()):
        return {}
    rows = read_prompts(file, args.column)
    named = {
        Path(str(row.extra[key])).name: row
        for row in rows
        for key in ("file", "image")
        if row.extra.get(key)
    }
    if not named:
        if len(rows) != len(paths):
            raise UserError(
                f"prompts={str(file)!r}: {len(rows)} prompts for {len(paths)} pictures, and no"
                " column file or image that joins them"
            )
        return dict(zip(paths, rows, strict=True))
    without = [p for p in paths if p.name not in named]
    if without:
        raise UserError(
            f"prompts={str(file)!r}: {len(without)} of {len(paths)} pictures have no prompt there,"
            f" the first {without[0].name!r}"
        )
    return {p: named[p.name] for p in paths}


def set_warnings(made: PictureSet, real: PictureSet | None, frechet: bool, width: int) -> list[str]:
    """What a reader of the numbers has to know about the sets."""
    said = []
    for which, of in (("reference", real), ("image", made)):
        if of is None:
            continue
        if frechet:
            said.append(small_set_warning(of.statistics.count, width, which))
        if of.skipped:
            said.append(
                f"{len(of.skipped)} files of the {which} set are no pictures and were left out"
            )
    return said


def labelled(name: str, extractor: Extractor) -> str:
    """A metric's key: bare for the network that defines it, else with the network's name, so that
    nobody takes it for the other.
    """
    standard = "clip" if name.startswith("CLIP") else ""
    return name if extractor.label == standard else f"{name}({extractor.label or extractor.name})"
