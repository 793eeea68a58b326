"""A set of picture files as features: streamed through an extractor, and for a reference set kept
in the user's cache.

This module knows nothing of metrics. Memory holds a few batches and the statistics; all features or
probabilities only where a metric needs them."""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vilg.data.records import BadRecord, decode_image
from vilg.metrics.statistics import FeatureStatistics
from vilg.run.score.features import Extractor, Features, file_hash
from vilg.types import UserError

KEPT = 2**31  # bytes of features or probabilities that a set may keep in memory
CLASSES = 1008  # probabilities of a picture
Watch = Callable[[int, int, int], None]  # (batches done, batches in all, pictures of a batch)


@dataclasses.dataclass
class PictureSet:
    """A set of pictures: statistics of its features, and where a metric needs them, the features
    [n, d] and probabilities [n, v]. `paths` are the pictures that could be read, in order;
    `skipped` says of each other file why not.
    """

    statistics: FeatureStatistics
    features: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    paths: list[Path] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)


def collect(
    extractor: Extractor,
    paths: Sequence[Path],
    keep: Sequence[str],
    field: str,
    watch: Watch | None = None,
) -> PictureSet:
    """The set of these files. `keep` names the fields of Features that are kept beside statistics.

    Errors: UserError, naming `field`, where no file is a picture, where features are not finite
    (with the picture), and for more pictures than can be kept."""
    check_memory(extractor, len(paths), keep, field)
    made = PictureSet(FeatureStatistics(extractor.width, identity(extractor)))
    features: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    batches = -(-len(paths) // extractor.rows)
    for done, (names, batch) in enumerate(stream(extractor, paths, made.skipped), 1):
        if batch is not None:
            finite = np.isfinite(batch.features).all(1)
            if not finite.all():
                k = int(np.argmin(finite))
                raise UserError(
                    f"{field}: the features of picture {len(made.paths) + k} ({names[k]}) are not"
                    " finite; check it and the extractor's weights"
                )
            made.statistics.update(batch.features)
            made.paths += names
            if "features" in keep:
                features.append(np.asarray(batch.features))
            if "probabilities" in keep:
                probabilities.append(np.asarray(batch.probabilities))
        if watch is not None:
            watch(done, batches, extractor.rows)
    if not made.paths:
        raise UserError(
            f"{field}: none of {len(paths)} files is a picture; give a directory or glob of"
            " pictures"
        )
    made.features = np.concatenate(features) if features else None
    made.probabilities = np.concatenate(probabilities) if probabilities else None
    return made


def check_memory(extractor: Extractor, pictures: int, keep: Sequence[str], field: str) -> None:
    """Errors: UserError where the fields that are kept would take more than KEPT."""
    for name in keep:
        numbers = extractor.width if name == "features" else CLASSES
        if pictures * numbers * 4 > KEPT:
            raise UserError(
                f"{field}: {pictures} pictures x {numbers} {name} are over the limit of"
                f" {KEPT // 2**20} MiB that KID, IS and neighbours may keep; give at most"
                f" {KEPT // (numbers * 4)} pictures, or --metrics=FID, which keeps none"
            )


def stream(
    extractor: Extractor, paths: Sequence[Path], skipped: list[str]
) -> Iterator[tuple[list[Path], Features | None]]:
    """(pictures that could be read, their features), batch by batch: while a batch is computed,
    threads read the next one. Adds a line to `skipped` for every other file.
    """
    chunks = [paths[i : i + extractor.rows] for i in range(0, len(paths), extractor.rows)]

    def load(path: Path) -> np.ndarray | str:
        try:
            return extractor.prepare(decode_image(str(path), path.read_bytes()))
        except BadRecord as error:
            return f"{path}: {error.reason}"
        except OSError as error:
            return f"{path}: {error}"

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        following: list[Future] = [pool.submit(load, path) for path in chunks[0]] if chunks else []
        running: tuple[list[Path], Callable[[], Features] | None] | None = None
        for i, chunk in enumerate(chunks):
            loaded = [future.result() for future in following]
            following = (
                [pool.submit(load, path) for path in chunks[i + 1]] if i + 1 < len(chunks) else []
            )
            skipped += [x for x in loaded if isinstance(x, str)]
            good = [
                (path, x) for path, x in zip(chunk, loaded, strict=True) if not isinstance(x, str)
            ]
            started = extractor.start(np.stack([x for _, x in good])) if good else None
            if running is not None:
                yield running[0], running[1]() if running[1] else None
            running = [path for path, _ in good], started
        if running is not None:
            yield running[0], running[1]() if running[1] else None


def identity(extractor: Extractor) -> dict[str, str]:
    """The strings that statistics must have in common to be compared."""
    return {
        "extractor": extractor.name,
        "preprocessing": json.dumps(extractor.protocol(), sort_keys=True),
    }


def reference_set(
    extractor: Extractor, paths: Sequence[Path], keep: Sequence[str], watch: Watch | None = None
) -> PictureSet:
    """The set of a reference's files: from the cache, if the same pictures went through the same
    extractor before.
    """
    content = [identity(extractor), *sorted(file_hash(p) for p in paths)]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    place = cache_directory()
    statistics, features = place / f"{digest}.npz", place / f"{digest}.features.npy"
    if statistics.is_file() and ("features" not in keep or features.is_file()):
        stored = PictureSet(
            FeatureStatistics.load(statistics),
            np.load(features, mmap_mode="r") if "features" in keep else None,
        )
        stored.skipped = ["a file that is no picture"] * (len(paths) - stored.statistics.count)
        return stored
    made = collect(extractor, paths, keep, "reference", watch)
    made.statistics.identity["source"] = digest
    try:
        place.mkdir(parents=True, exist_ok=True)
        if made.features is not None:
            temporary = features.with_name(f".{features.name}")
            with temporary.open("wb") as file:
                np.save(file, made.features)
            temporary.replace(features)
        made.statistics.save(statistics)
    except OSError as error:  # without the cache the next score takes longer
        print(
            f"vilg score images: the reference's statistics are not kept in {place}"
            f" ({error.strerror})",
            file=sys.stderr,
        )
    return made


def cache_directory() -> Path:
    """The directory of reference sets: vilg/statistics in XDG_CACHE_HOME, else in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vilg" / "statistics"


def check_identity(statistics: FeatureStatistics, extractor: Extractor, path: str) -> str:
    """A warning for statistics that do not say which extractor made them, else "". Errors:
    UserError for statistics of another extractor.
    """
    if statistics.width != extractor.width:
        raise UserError(
            f"reference={path!r}: has {statistics.width} features, {extractor.name} has"
            f" {extractor.width}; give the same extractor's"
        )
    ours = identity(extractor)
    for name in ours:
        if name in statistics.identity and statistics.identity[name] != ours[name]:
            raise UserError(
                f"reference={path!r}: was computed with {name} {statistics.identity[name]}, these"
                f" pictures with {ours[name]}; compute it anew"
            )
    if "extractor" not in statistics.identity:
        return (
            f"{path} does not say which network and resize its statistics are of; they are taken to"
            " be as these"
        )
    return ""
