"""vilg score captions scores captions against references by BLEU-1..4, METEOR, ROUGE-L, CIDEr and
SPICE, as pycocoevalcap computes them.

Predictions are a .jsonl with `id` or `image` and `caption` or `captions` (strings or {text,
language}; the first in the language is scored), such as `vilg caption` writes, or a .json of COCO
or AIC-ICC results. References are the same .jsonl with `captions`, a .json of COCO or AIC-ICC, or a
.txt of COCO-CN. Both files must name the same items: by id, by image, or by the picture's file
name.

  --unit=word  text with spaces as segmented, other Chinese by jieba, English by Penn Treebank
               rules (lower case, no punctuation)
  --unit=char  spaces dropped, every character a token

Scores are fractions (CIDEr from 0 to 10) with 95 % bootstrap intervals; METEOR and SPICE need Java
and are null, with the reason, without it."""

import argparse
import dataclasses
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from vilg.data.caption_files import read_captions
from vilg.data.references import join, predictions_of, references_of
from vilg.metrics.captions import RESAMPLES, Scores, describe, score_captions, tokenizer
from vilg.metrics.segment import DEFAULT_UNIT, is_segmented, segmenter
from vilg.run.terminal.outputs import output_file
from vilg.types import UserError
from vilg.workdir.files import versions

LIBRARIES = ("pycocoevalcap", "jieba", "numpy")
PUNCTUATION = ("keep", "drop")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the action's options."""
    parser.add_argument(
        "--predictions",
        required=True,
        metavar="FILE",
        help="a caption an item: .jsonl, or .json of COCO or AIC-ICC results",
    )
    parser.add_argument(
        "--references",
        required=True,
        metavar="FILE",
        help="captions an item: .jsonl, .json of COCO or AIC-ICC, .txt of COCO-CN",
    )
    parser.add_argument(
        "--language",
        required=True,
        help="zh or en; only captions in it count, and those that do not tell theirs",
    )
    parser.add_argument(
        "--unit",
        default="",
        help=(
            f"word or char (default: {', '.join(f'{u} for {g}' for g, u in DEFAULT_UNIT.items())})"
        ),
    )
    parser.add_argument(
        "--punctuation",
        default="keep",
        help="Chinese: keep (default) or drop; English words never have it",
    )
    parser.add_argument("--out", required=True, metavar="FILE.json")
    parser.add_argument(
        "--items", default="", metavar="FILE.jsonl", help="also write each item's scores and tokens"
    )


@dataclasses.dataclass(frozen=True)
class Joined:
    """Predictions and references of the same items, in the same order. `left_out` counts captions
    in other languages; `joined_by` is the field by which the files were joined.
    """

    names: Sequence[str]
    predictions: Sequence[str]
    references: Sequence[Sequence[str]]
    left_out: int
    joined_by: str


def main(args: argparse.Namespace, config: ConfigDict | None) -> int:
    """Reads, scores, prints a table and writes the JSON; the exit code."""
    unit = args.unit or DEFAULT_UNIT.get(args.language, "word")
    segmenter(args.language, unit)
    if args.punctuation not in PUNCTUATION:
        raise UserError(f"punctuation={args.punctuation!r}: give {' or '.join(PUNCTUATION)}")
    out = output_file(args.out, ".json")
    items_out = output_file(args.items, ".jsonl", "items") if args.items else None
    joined = read(args, [path for path in (out, items_out) if path is not None])
    drop = args.punctuation == "drop"
    print(f"vilg score captions: {len(joined.names)} items", file=sys.stderr, flush=True)
    scores = score_captions(
        joined.predictions, joined.references, args.language, unit, drop, resamples=RESAMPLES
    )
    if items_out is not None:
        write_items(items_out, joined, tokenizer(args.language, unit, drop), scores.items)
    protocol = protocol_of(args, unit, joined, scores)
    report = {"metrics": scores.corpus, "ci95": scores.ci95, "protocol": protocol}
    out.write_text(json.dumps(report, indent=1, ensure_ascii=False))
    mean = protocol["references_per_item"]["mean"]
    captions = f"{len(joined.names)} captions in {args.language} by {unit}"
    show(scores, f"{captions}, {mean:.3g} references each")
    return 0


def read(args: argparse.Namespace, outputs: Sequence[Path]) -> Joined:
    """The captions of both files, joined. Errors: UserError for an output that is another output or
    one of the files.
    """
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise UserError(f"items={args.items!r}: is --out too; give another file")
    sources = {"predictions": args.predictions, "references": args.references}
    predicted, referred = (read_captions(path, field) for field, path in sources.items())
    for path in outputs:
        if path.resolve() in [Path(source).resolve() for source in sources.values()]:
            raise UserError(f"out={str(path)!r}: is a file to be read; give another one")
    places, joined_by = join(predicted, referred)
    texts = predictions_of(predicted, args.language, f"predictions={args.predictions!r}")
    references, left_out = references_of(referred, args.language, f"references={args.references!r}")
    names = [item.name for item in referred]
    return Joined(names, [texts[i] for i in places], references, left_out, joined_by)


def protocol_of(
    args: argparse.Namespace, unit: str, joined: Joined, scores: Scores
) -> dict[str, Any]:
    """How the scores were computed, and from what."""
    counts = [len(texts) for texts in joined.references]
    dropped = "dropped by the Penn Treebank rules"
    files = {"predictions": args.predictions, "references": args.references}
    protocol: dict[str, object] = {
        **describe(args.language, unit, args.punctuation == "drop"),
        "punctuation": args.punctuation if args.language == "zh" else dropped,
        "n": len(joined.predictions),
        "references_per_item": {
            "min": min(counts),
            "mean": sum(counts) / len(counts),
            "max": max(counts),
        },
        "references_in_other_languages": joined.left_out,
        "joined_by": joined.joined_by,
        "null": scores.reasons,
        "notes": scores.notes,
        "ci95": f"percentiles of {RESAMPLES} bootstrap resamples of items, seed 0",
        "inputs": {
            field: {"file": str(path), "sha256": digest(path)} for field, path in files.items()
        },
        "versions": versions() | {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    if args.language == "zh" and unit == "word":
        references = [text for texts in joined.references for text in texts]
        protocol["taken_as_segmented"] = {
            "predictions": sum(map(is_segmented, joined.predictions)),
            "references": sum(map(is_segmented, references)),
            "of": [len(joined.predictions), sum(counts)],
        }
    return protocol


def digest(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write_items(
    out: Path,
    joined: Joined,
    tokens: Callable[[str], Sequence[str]],
    scores: Mapping[str, Sequence[float]],
) -> None:
    """Writes a line an item: its name, its tokens, its scores."""
    items = zip(joined.names, joined.predictions, joined.references, strict=True)
    with out.open("w", encoding="utf-8") as file:
        for i, (name, prediction, references) in enumerate(items):
            line = {
                "id": name,
                "prediction": " ".join(tokens(prediction)),
                "references": [" ".join(tokens(text)) for text in references],
                "scores": {metric: values[i] for metric, values in scores.items()},
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def show(scores: Scores, title: str) -> None:
    """Prints the scores with their intervals, and the notes on them."""
    table = Table("metric", "value", "95 %", title=title)
    for name, value in scores.corpus.items():
        low_high = scores.ci95.get(name)
        interval = f"{low_high[0]:.4f} to {low_high[1]:.4f}" if low_high else ""
        table.add_row(name, "null" if value is None else f"{value:.4f}", interval)
    console = Console()
    console.print(table)
    for line in (*(f"{name}: {reason}" for name, reason in scores.reasons.items()), *scores.notes):
        console.print(line, markup=False, highlight=False)
