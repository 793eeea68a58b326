"""Choices by a ranker: the best of several pictures of a prompt, and the scores of a data set's
captions, by which the data can be filtered.

Separate from the session, which computes the features of pictures and texts; this module uses their
cosines.
"""

import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from vilg.config import require
from vilg.data.convert import good_records
from vilg.data.replace import new_file
from vilg.data.sources import WritesCaptions
from vilg.types import UserError

AT_ONCE = 256  # pictures held in memory


class Features(Protocol):
    """The methods of a ranker's session (workdir/session.py) that this module uses."""

    @property
    def experiment(self) -> Any:
        """The run's Experiment."""
        ...

    def embed_images(self, images: object) -> np.ndarray:
        """The pictures' features [n, d], of unit length."""
        ...

    def embed_texts(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """The texts' features [n, d], of unit length."""
        ...

    def text_ids(self, text: str, language: str) -> tuple[np.ndarray, bool]:
        """The (ids, whether the text was cut to data.text.length)."""
        ...


def check_request(best_of: int | None, ranker: str) -> None:
    """Errors: UserError where only one of best_of and ranker is given, or best_of is below 2."""
    if best_of is None and not ranker:
        return
    require(bool(ranker), "best_of", best_of, "needs --ranker=WORKDIR to choose by")
    require(
        best_of is not None,
        "ranker",
        ranker,
        "needs --best_of=N, the number of pictures of which it keeps one",
    )
    require(
        best_of is not None and best_of >= 2,
        "best_of",
        best_of,
        "must be at least 2; leave it and --ranker out to keep every picture",
    )


def check_languages(ranker: Any, workdir: str, languages: Iterable[str]) -> None:
    """Errors: UserError for a language in which the ranker was trained on no captions."""
    data = ranker.experiment.data
    languages_read = data.loader.languages
    if isinstance(data.train, WritesCaptions):
        languages_read = [g for g in languages_read if g in data.train.languages]
    for language in sorted(set(languages) - set(languages_read)):
        raise UserError(
            f"ranker={workdir!r}: was trained on captions in {', '.join(languages_read)}, and"
            f" there is text in {language}; give one that reads it"
        )


def cosines(
    ranker: Any, images: Sequence[np.ndarray], texts: Sequence[str], languages: Sequence[str]
) -> Float[np.ndarray, " n"]:
    """The cosine of each picture with its text. The features of a text that several pictures share
    are computed once.
    """
    pairs = list(dict.fromkeys(zip(texts, languages, strict=True)))
    cut = [text for text, language in pairs if ranker.text_ids(text, language)[1]]
    if cut:
        length = ranker.experiment.data.text.length
        print(
            f"vilg: the ranker read {len(cut)} texts up to its data.text.length={length} only, the"
            f" first: {cut[0]!r}",
            file=sys.stderr,
        )
    features = dict(
        zip(pairs, ranker.embed_texts(*map(list, zip(*pairs, strict=True))), strict=True)
    )
    of_texts = np.stack([features[pair] for pair in zip(texts, languages, strict=True)])
    return np.sum(ranker.embed_images(images) * of_texts, -1)


def best_of(samples: Sequence[Any], number: int, ranker: Any) -> list[Any]:
    """The best sample of every group of `number` successive samples, which have the same prompt:
    the sample of the largest cosine (the first of equal ones), with its `score`, and with
    `candidates`, the (seed, cosine) of all samples of the group.
    """
    scores = cosines(
        ranker,
        [s.image for s in samples],
        [s.prompt for s in samples],
        [s.language for s in samples],
    ).reshape(-1, number)
    best = []
    for k, row in enumerate(scores):
        group = samples[k * number : (k + 1) * number]
        candidates = tuple((sample.seed, float(s)) for sample, s in zip(group, row, strict=True))
        best.append(
            dataclasses.replace(
                group[int(np.argmax(row))], score=float(row.max()), candidates=candidates
            )
        )
    return best


def rank_records(
    source: Any,
    ranker: Any,
    workdir: str,
    out: str | os.PathLike[str],
    bad_record_limit: int = 100,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Writes a line for every good record to the new file `out`: {"id", "scores": [{"text",
    "language", "score"}]}, where a score is the cosine of the caption and the record's picture.

    Returns counts. Errors: UserError for an `out` that exists, a language that the ranker does not
    read, more than `bad_record_limit` bad records, and a source without a good record.
    """
    if Path(out).exists():
        raise UserError(f"out={str(out)!r}: exists already; remove it or name another file")
    bad: dict[str, str] = {}
    records, scores = 0, []
    with new_file(Path(out)) as target, open(target, "w", encoding="utf-8") as file:
        for group in groups(good_records(source, bad, bad_record_limit), AT_ONCE):
            items = [
                (record["image"], c["text"], c["language"])
                for record in group
                for c in record["captions"]
            ]
            check_languages(ranker, workdir, (language for _, _, language in items))
            values = cosines(ranker, *map(list, zip(*items, strict=True))).tolist()
            remaining = iter(values)
            for record in group:
                scored = [
                    {"text": c["text"], "language": c["language"], "score": next(remaining)}
                    for c in record["captions"]
                ]
                file.write(
                    json.dumps({"id": record["id"], "scores": scored}, ensure_ascii=False) + "\n"
                )
            records, scores = records + len(group), scores + values
            log(f"{records:,} of {len(source):,} records scored")
        if not records:
            raise UserError(
                f"data rank: the source has no good record ({len(bad)} bad); check its path and"
                " split"
            )
    return {
        "records": records,
        "captions": len(scores),
        "mean_score": float(np.mean(scores)),
        "bad": bad,
    }


def groups(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` successive items; the last list may be shorter."""
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group
