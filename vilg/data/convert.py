"""Conversion of any source into a data set on disk, and statistics of a source: one pass over the
records, with the same treatment of bad ones."""

import collections
import os
from collections.abc import Iterator

import numpy as np

from vilg.config import lookup
from vilg.data.folder import FolderWriter
from vilg.data.records import LANGUAGES, BadRecord, Record, validate
from vilg.data.replace import replacing
from vilg.data.shards import ShardsWriter
from vilg.data.sources import Source
from vilg.data.webdataset import WebDatasetWriter
from vilg.types import UserError

WRITERS = {"folder": FolderWriter, "shards": ShardsWriter, "webdataset": WebDatasetWriter}


def good_records(
    source: Source, bad: dict[str, str], limit: int, count: int | None = None
) -> Iterator[Record]:
    """The good records of a source, or of its first `count` records, in order. Bad ones are added
    to `bad` (id -> reason).

    Errors: UserError that names the first ones, where more than `limit` are bad."""
    for i in range(len(source) if count is None else min(count, len(source))):
        try:
            yield validate(source[i])
        except BadRecord as error:
            name = error.id if error.id not in bad else f"{error.id}#{i}"
            bad[name] = error.reason
            if len(bad) > limit:
                first = "; ".join(f"{id} ({reason})" for id, reason in list(bad.items())[:3])
                raise UserError(
                    f"bad_record_limit={limit}: more records are bad, the first are {first}; repair"
                    " them or raise it"
                ) from None


def convert(
    source: Source, kind: str, out: str | os.PathLike[str], bad_record_limit: int = 100
) -> dict[str, object]:
    """Writes every good record of a source as `kind` (folder, shards, webdataset) to the new
    directory `out`, which appears whole or not at all.

    Pictures are stored as PNG, so that pixels stay exact; every other field stays too. Returns
    {"records", "bad": {id: reason}}. Errors: UserError for an unknown kind, an existing `out`, too
    many bad records, or no good one."""
    writer = lookup(WRITERS, kind, "to")
    bad: dict[str, str] = {}
    with replacing(out) as folder:
        with writer(folder) as target:
            for record in good_records(source, bad, bad_record_limit):
                target.write(record)
        if not target.count:
            raise UserError(
                f"data convert: the source has no good record ({len(bad)} bad); check its path and"
                " split"
            )
    return {"records": target.count, "bad": bad}


def stats(
    source: Source, count: int | None = None, bad_record_limit: int = 10**9
) -> dict[str, object]:
    """Statistics of a source, or of its first `count` records: counts, languages of captions and
    their lengths in characters, sizes of pictures.
    """
    bad: dict[str, str] = {}
    tally: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    lengths: dict[str, list[int]] = {language: [] for language in LANGUAGES}
    short_sides: list[int] = []
    captions = read = 0
    for record in good_records(source, bad, bad_record_limit, count):
        read += 1
        captions += len(record["captions"])
        for caption in record["captions"]:
            lengths[caption["language"]].append(len(caption["text"]))
        height, width = record["image"].shape[:2]
        short_sides.append(min(height, width))
        tally["image_sizes"][f"{width}x{height}"] += 1
        tally["sources"][record.get("source") or "not said"] += 1
        tally["licenses"][record.get("license") or "not said"] += 1
        tally["fields"].update(
            name for name in ("boxes", "words", "qa", "scene") if record.get(name)
        )
    return {
        "records": len(source),
        "good": read,
        "bad": len(bad),
        "first_bad": dict(list(bad.items())[:10]),
        "captions": captions,
        "captions_by_language": {language: len(values) for language, values in lengths.items()},
        "caption_characters": {
            language: quantiles(values) for language, values in lengths.items() if values
        },
        "short_side": quantiles(short_sides) if short_sides else None,
        "image_sizes": dict(tally["image_sizes"].most_common(10)),
        "distinct_image_sizes": len(tally["image_sizes"]),
        "sources": dict(tally["sources"]),
        "licenses": dict(tally["licenses"]),
        "with": dict(tally["fields"]),
    }


def quantiles(values: list[int]) -> dict[str, float]:
    """The smallest value, the median, the 95th percentile and the largest value."""
    low, median, high, most = np.percentile(values, [0, 50, 95, 100]).tolist()
    return {"min": low, "median": median, "p95": high, "max": most}
