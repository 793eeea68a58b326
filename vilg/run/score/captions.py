"""vilg score captions: BLEU-1..4, METEOR, ROUGE-L, CIDEr and SPICE of captions against references,
as pycocoevalcap computes them.

Predictions: .jsonl with `id` or `image` and `caption` or `captions` (strings or {text, language};
the first in the language is scored), such as `vilg caption` writes; or a COCO or AIC-ICC result
.json. References: the same .jsonl with `captions`, COCO's or AIC-ICC's .json, or COCO-CN's .txt.
Both sides must name the same items: by id, by image, or by the picture's file name.

  --unit=word  text with spaces as segmented, other Chinese by jieba, English by Penn Treebank
               rules (lower case, no punctuation)
  --unit=char  spaces dropped, every character a token

Scores are fractions (CIDEr from 0 to 10) with 95 % bootstrap intervals; METEOR and SPICE need Java
and are null, with the reason, without it."""

import argparse
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
    """The action's options."""
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


def main(args: argparse.Namespace, config: Any) -> int:
    """Reads, checks, scores, prints a table, writes."""
    unit = args.unit or DEFAULT_UNIT.get(args.language, "word")
    segmenter(args.language, unit)
    if args.punctuation not in PUNCTUATION:
        raise UserError(f"punctuation={args.punctuation!r}: give {' or '.join(PUNCTUATION)}")
    out = output_file(args.out, ".json")
    items_out = output_file(args.items, ".jsonl", "items") if args.items else None
    if items_out is not None and items_out.resolve() == out.resolve():
        raise UserError(f"items={args.items!r}: is --out too; give another file")
    sources = {"predictions": args.predictions, "references": args.references}
    predicted, referred = (read_captions(path, field) for field, path in sources.items())
    for path in (out, items_out):
        if path is not None and path.resolve() in [Path(p).resolve() for p in sources.values()]:
            raise UserError(f"out={str(path)!r}: is a file to be read; give another one")
    places, joined_by = join(predicted, referred)
    texts = predictions_of(predicted, args.language, f"predictions={args.predictions!r}")
    predictions = [texts[i] for i in places]
    references, left_out = references_of(referred, args.language, f"references={args.references!r}")
    drop = args.punctuation == "drop"
    scores = score_captions(predictions, references, args.language, unit, drop, resamples=RESAMPLES)
    counts = [len(texts) for texts in references]
    protocol: dict[str, Any] = {
        **describe(args.language, unit, drop),
        "punctuation": (
            args.punctuation if args.language == "zh" else "dropped by the Penn Treebank rules"
        ),
        "n": len(predictions),
        "references_per_item": {
            "min": min(counts),
            "mean": sum(counts) / len(counts),
            "max": max(counts),
        },
        "references_in_other_languages": left_out,
        "joined_by": joined_by,
        "null": scores.reasons,
        "notes": scores.notes,
        "ci95": f"percentiles of {RESAMPLES} bootstrap resamples of items, seed 0",
        "inputs": {
            field: {"file": str(path), "sha256": digest(path)} for field, path in sources.items()
        },
        "versions": versions() | {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    if args.language == "zh" and unit == "word":
        protocol["taken_as_segmented"] = {
            "predictions": sum(map(is_segmented, predictions)),
            "references": sum(is_segmented(text) for texts in references for text in texts),
            "of": [len(predictions), sum(counts)],
        }
    if items_out is not None:
        cut = tokenizer(args.language, unit, drop)
        rows = [
            {
                "id": item.name,
                "prediction": " ".join(cut(text)),
                "references": [" ".join(cut(t)) for t in truths],
            }
            for item, text, truths in zip(referred, predictions, references, strict=True)
        ]
        write_items(items_out, rows, scores.items)
    out.write_text(
        json.dumps(
            {"metrics": scores.corpus, "ci95": scores.ci95, "protocol": protocol},
            indent=1,
            ensure_ascii=False,
        )
    )
    show(
        scores,
        f"{len(predictions)} captions in {args.language} by {unit}, {sum(counts) / len(counts):.3g}"
        " references each",
    )
    return 0


def digest(path: str) -> str:
    """sha256 of a file, in hex."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write_items(
    out: Path, rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Sequence[float]]
) -> None:
    """A line an item: its name, its tokens, its scores."""
    lines = [
        dict(row) | {"scores": {name: values[i] for name, values in scores.items()}}
        for i, row in enumerate(rows)
    ]
    out.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
    )


def show(scores: Scores, title: str) -> None:
    """The numbers with their intervals, and what there is to say about them."""
    table = Table("metric", "value", "95 %", title=title)
    for name, value in scores.corpus.items():
        low_high = scores.ci95.get(name)
        interval = f"{low_high[0]:.4f} to {low_high[1]:.4f}" if low_high else ""
        table.add_row(name, "null" if value is None else f"{value:.4f}", interval)
    console = Console()
    console.print(table)
    for line in (*(f"{name}: {reason}" for name, reason in scores.reasons.items()), *scores.notes):
        console.print(line, markup=False, highlight=False)
