"""Any source into a data set on disk, and what a source holds in numbers.

Separate because `vilg data convert | synth | stats` share one pass over the records with the same
treatment of bad ones."""

import collections
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from vilg.config import lookup
from vilg.data.folder import FolderWriter
from vilg.data.records import LANGUAGES, BadRecord, Record, validate
from vilg.data.replace import replacing
from vilg.data.shards import ShardsWriter
from vilg.data.webdataset import WebDatasetWriter
from vilg.types import UserError

WRITERS = {"folder": FolderWriter, "shards": ShardsWriter, "webdataset": WebDatasetWriter}


def good_records(
    source: Any, bad: dict[str, str], limit: int, count: int | None = None
) -> Iterator[Record]:
    """The good records in order; bad ones go into `bad` (id -> reason), and past `limit` of them a
    UserError names the first.
    """
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
    source: Any, kind: str, out: str | os.PathLike[str], bad_record_limit: int = 100
) -> dict[str, Any]:
    """Writes every good record of a source as `kind` (folder, shards, webdataset) to the new
    directory `out`, which appears whole.

    Pictures are stored as PNG, so pixels stay exact; every other field is kept. Returns {"records",
    "bad": {id: reason}}. Errors: UserError for an unknown kind, an existing `out`, too many bad
    records, or none good."""
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


def stats(source: Any, count: int | None = None, bad_record_limit: int = 10**9) -> dict[str, Any]:
    """What a source (or its first `count` records) holds: counts, caption languages and lengths in
    characters, picture sizes.
    """
    bad: dict[str, str] = {}
    tally: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    lengths: dict[str, list[int]] = {language: [] for language in LANGUAGES}
    captions = read = 0
    for record in good_records(source, bad, bad_record_limit, count):
        read += 1
        captions += len(record["captions"])
        for caption in record["captions"]:
            lengths[caption["language"]].append(len(caption["text"]))
        height, width = record["image"].shape[:2]
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
        "image_sizes": dict(tally["image_sizes"].most_common(10)),
        "distinct_image_sizes": len(tally["image_sizes"]),
        "sources": dict(tally["sources"]),
        "licenses": dict(tally["licenses"]),
        "with": dict(tally["fields"]),
    }


def quantiles(values: list[int]) -> dict[str, float]:
    """Smallest, median, 95th percentile and largest."""
    low, median, high, most = np.percentile(values, [0, 50, 95, 100]).tolist()
    return {"min": low, "median": median, "p95": high, "max": most}
