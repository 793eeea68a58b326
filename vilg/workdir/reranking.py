"""Choosing by a ranker: the best of several pictures of a prompt, and scores of a data set's
captions to filter on.

Separate from the session, which only embeds: here is what the cosines of pictures and texts are
used for."""

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
from vilg.types import UserError

AT_ONCE = 256  # pictures held in memory


class Features(Protocol):
    """What is asked of a ranker's session (workdir/session.py)."""

    @property
    def experiment(self) -> Any:
        """The run's Experiment."""
        ...

    def embed_images(self, images: Any) -> np.ndarray:
        """Features [n, d] of unit length of pictures."""
        ...

    def embed_texts(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Features [n, d] of unit length of texts."""
        ...

    def text_ids(self, text: str, language: str) -> tuple[np.ndarray, bool]:
        """(ids, whether they were cut)."""
        ...


def check_request(best_of: int | None, ranker: str) -> None:
    """Errors: UserError unless both are given or neither, and there is something to choose from."""
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
    """Errors: UserError for a language in which the ranker's run has read no captions."""
    data = ranker.experiment.data
    read = [
        g
        for g in data.loader.languages
        if g in getattr(data.train, "languages", data.loader.languages)
    ]
    for language in sorted(set(languages) - set(read)):
        raise UserError(
            f"ranker={workdir!r}: was trained on captions in {', '.join(read)}, and there is text"
            f" in {language}; give one that reads it"
        )


def cosines(
    ranker: Any, images: Sequence[np.ndarray], texts: Sequence[str], languages: Sequence[str]
) -> Float[np.ndarray, " n"]:
    """Of each picture and its text. A text that several pictures share is read once."""
    pairs = list(dict.fromkeys(zip(texts, languages, strict=True)))
    cut = [text for text, language in pairs if ranker.text_ids(text, language)[1]]
    if cut:
        length = ranker.experiment.data.text.length
        print(
            f"vilg: the ranker read {len(cut)} texts up to its data.text.length={length} only, the"
            f" first: {cut[0]!r}",
            file=sys.stderr,
        )
    read = dict(zip(pairs, ranker.embed_texts(*map(list, zip(*pairs, strict=True))), strict=True))
    of_texts = np.stack([read[pair] for pair in zip(texts, languages, strict=True)])
    return np.sum(ranker.embed_images(images) * of_texts, -1)


def best_of(made: Sequence[Any], number: int, ranker: Any) -> list[Any]:
    """Of each `number` samples in a row, which are of one prompt, the one of the largest cosine
    (the first of equals), with its `score` and its `candidates`, (seed, cosine) of all."""
    scores = cosines(
        ranker, [m.image for m in made], [m.prompt for m in made], [m.language for m in made]
    ).reshape(-1, number)
    kept = []
    for k, row in enumerate(scores):
        group = made[k * number : (k + 1) * number]
        candidates = tuple((m.seed, float(s)) for m, s in zip(group, row, strict=True))
        kept.append(
            dataclasses.replace(
                group[int(np.argmax(row))], score=float(row.max()), candidates=candidates
            )
        )
    return kept


def rank_records(
    source: Any,
    ranker: Any,
    workdir: str,
    out: str | os.PathLike[str],
    bad_record_limit: int = 100,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Writes a line a good record to the new file `out`: {"id", "scores": [{"text", "language",
    "score"}]}, a cosine for each caption.

    Returns counts. Errors: UserError for an existing `out`, a language that the ranker does not
    read, too many bad records, none good."""
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
            found = cosines(ranker, *map(list, zip(*items, strict=True))).tolist()
            left = iter(found)
            for record in group:
                scored = [
                    {"text": c["text"], "language": c["language"], "score": next(left)}
                    for c in record["captions"]
                ]
                file.write(
                    json.dumps({"id": record["id"], "scores": scored}, ensure_ascii=False) + "\n"
                )
            records, scores = records + len(group), scores + found
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
    """Lists of `size` items in their order, the last one shorter."""
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group
