"""vilg score images measures how near a folder of pictures is to a reference, and how well the
pictures fit their prompts. No run of vilg is needed.

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
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from vilg.config import lookup
from vilg.metrics.frechet import small_set_warning
from vilg.metrics.resize import RESIZES
from vilg.metrics.statistics import FeatureStatistics, UncountedStatistics
from vilg.run.score.extractors import EXTRACTORS, ExtractorOptions
from vilg.run.score.features import Extractor
from vilg.run.score.metrics import METRICS, Compared, Group
from vilg.run.score.picture_set import PictureSet, check_identity, collect, reference_set
from vilg.run.score.ranker import ranker_extractor
from vilg.run.score.selection import chosen_metrics, prompts_of
from vilg.run.terminal.inputs import find_images
from vilg.run.terminal.outputs import output_file
from vilg.run.terminal.progress import Evaluations
from vilg.types import UserError
from vilg.workdir.files import versions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the action's options."""
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


def main(args: argparse.Namespace, config: ConfigDict | None) -> int:
    """Scores, prints a table and writes the JSON; the exit code."""
    out = output_file(args.out, ".json")
    saved = args.save_statistics and output_file(args.save_statistics, ".npz", "save_statistics")
    paths = find_images(args.images)
    stored = args.reference.endswith(".npz")
    references = find_images(args.reference, "reference") if args.reference and not stored else []
    check(args, stored)
    statistics = FeatureStatistics.load(args.reference) if stored else None
    say(f"opening {args.ranker or args.weights}")
    extractor = open_extractor(args)
    prompts = prompts_of(paths, args.images, args.prompts, args.column)
    names = chosen_metrics(args.metrics, extractor, bool(references), stored, bool(prompts))
    groups = {name: METRICS[name] for name in names}
    keep = sorted({field for group in groups.values() for field in group.keeps})
    warnings = []
    real = None
    if statistics is not None:
        warnings.append(check_identity(statistics, extractor, args.reference))
        real = PictureSet(statistics)
    elif references:
        shared = [f for f in keep if f == "features" and needs_of_reference(groups.values(), f)]
        with Evaluations("reference", args.quiet) as watch:
            real = reference_set(extractor, references, shared, watch)
    if saved and real is not None:
        real.statistics.save(saved)
    with Evaluations("images", args.quiet) as watch:
        made = collect(extractor, paths, keep, "images", watch)
    of_made = [prompts[path] for path in made.paths] if prompts else []
    sets = Compared(made, real, extractor, of_made, args.seed)
    metrics: dict[str, float] = {}
    protocol: dict[str, object] = {}
    for group in dict.fromkeys(groups.values()):
        result = group.compute(sets)
        together = [name for name in names if groups[name] is group]
        for name, value in result.values.items():
            if name.removesuffix("_deviation") in together:
                metrics[labelled(name, extractor)] = value
        protocol |= {labelled(name, extractor): result.protocol for name in together}
        warnings += result.warnings
    warnings += set_warnings(sets, any(name == "FID" for name in names))
    warnings = [w for w in dict.fromkeys(warnings) if w]
    protocol |= protocol_of(args, sets)
    for line in (*made.skipped, *(real.skipped if real else ())):
        say(f"skipped {line}")
    for line in warnings:
        say(line)
    report = {"metrics": metrics, "protocol": protocol, "warnings": warnings}
    out.write_text(json.dumps(report, indent=1, ensure_ascii=False))
    show(metrics, f"{args.images} against {args.reference or 'nothing'}, {extractor.name}")
    return 0


def say(line: str) -> None:
    """A line on standard error, at once."""
    print(f"vilg score images: {line}", file=sys.stderr, flush=True)


def needs_of_reference(groups: Iterable[Group], field: str) -> bool:
    """Whether one of the groups needs this field of the reference."""
    return any(group.reference and field in group.keeps for group in groups)


def protocol_of(args: argparse.Namespace, sets: Compared) -> dict[str, Any]:
    """What was compared, by which network and versions."""
    made, real = sets.made, sets.reference
    counted = real is not None and not isinstance(real.statistics, UncountedStatistics)
    return {
        "images": args.images,
        "n": made.statistics.count,
        "skipped": len(made.skipped),
        "reference": args.reference or None,
        "n_reference": real.statistics.count if real is not None and counted else None,
        "skipped_reference": 0 if real is None else len(real.skipped),
        "extractor": sets.extractor.protocol() | {"features": sets.extractor.width},
        "versions": versions(),
    }


def show(metrics: Mapping[str, float], title: str) -> None:
    """Prints the metrics."""
    table = Table("metric", "value", title=title)
    for name, value in metrics.items():
        table.add_row(name, f"{value:.5g}")
    Console().print(table)


def check(args: argparse.Namespace, stored: bool) -> None:
    """Errors: UserError for options that do not go together. `stored`: whether --reference is a
    file of statistics.
    """
    if args.extractor and args.ranker:
        raise UserError(
            f"ranker={args.ranker!r}: takes the place of --extractor={args.extractor}; give one of"
            " them"
        )
    if args.extractor:
        lookup(EXTRACTORS, args.extractor, "extractor")
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
    """The extractor of the options."""
    if args.ranker:
        return ranker_extractor(args.ranker)
    options = ExtractorOptions(args.weights, args.batch, args.resize, args.clip_tokenizer)
    return EXTRACTORS[args.extractor or "inception"](options)


def set_warnings(sets: Compared, frechet: bool) -> list[str]:
    """Sentences that a reader of the numbers has to know about the sets. `frechet`: whether FID is
    among the numbers.
    """
    said = []
    for name, pictures in (("reference", sets.reference), ("image", sets.made)):
        if pictures is not None and frechet:
            said.append(small_set_warning(pictures.statistics.count, sets.extractor.width, name))
        if pictures is not None and pictures.skipped:
            said.append(
                f"{len(pictures.skipped)} files of the {name} set are no pictures and were left out"
            )
    return said


def labelled(name: str, extractor: Extractor) -> str:
    """A metric's key: its bare name for the network that defines the metric, else the name with the
    network's, so that nobody takes one for the other.
    """
    standard = "clip" if name.startswith("CLIP") else ""
    return name if extractor.label == standard else f"{name}({extractor.label or extractor.name})"
