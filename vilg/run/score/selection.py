"""Which metrics of `vilg score images` can be computed, and which prompt belongs to which
picture.
"""

from collections.abc import Sequence
from pathlib import Path

from vilg.config import lookup
from vilg.data.prompts import Prompt, read_prompts
from vilg.run.score.features import Extractor, TextExtractor
from vilg.run.score.metrics import METRICS
from vilg.types import UserError


def chosen_metrics(
    names: str, extractor: Extractor, folder: bool, stored: bool, prompts: bool
) -> list[str]:
    """The metrics of `names`, joined by commas; all that can be computed for "". `folder` and
    `stored`: whether the reference is a folder, or a file of statistics; `prompts`: whether the
    pictures have prompts. Errors: UserError for a metric that cannot be computed.
    """
    lacking = lacking_of(extractor, folder, stored, prompts)
    if not names:
        computable = [name for name in METRICS if name not in lacking]
        if not computable:
            raise UserError(
                f"metrics is empty: FID {lacking['FID']}, CLIP-score {lacking['CLIP-score']}"
            )
        return computable
    asked = list(dict.fromkeys(names.split(",")))
    for name in asked:
        lookup(METRICS, name, "metrics")
        if name in lacking:
            raise UserError(f"metrics={name!r}: {lacking[name]}")
    return asked


def lacking_of(extractor: Extractor, folder: bool, stored: bool, prompts: bool) -> dict[str, str]:
    """{metric that cannot be computed: what it lacks}."""
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
    return lacking


def prompts_of(paths: Sequence[Path], images: str, prompts: str, column: str) -> dict[Path, Prompt]:
    """The prompt of each picture; {} where there are no prompts.

    `images` and `prompts` are the options; without `prompts` those of samples.jsonl in the
    directory `images` count. Errors: UserError for pictures without a prompt, with their number."""
    place = Path(images)
    file = Path(prompts) if prompts else place / "samples.jsonl"
    if not prompts and not (place.is_dir() and file.is_file()):
        return {}
    rows = read_prompts(file, column)
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
