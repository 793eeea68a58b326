"""Compares the pictures of a Chinese prompt with the pictures of its English twin, on records that
have a caption in both languages: for data that no scorer can read.

Two questions can be answered from pixels and from the model's own likelihood, without another
model. Does a caption tell the model which picture is meant: does the picture's own caption fit it
better (by likelihood, or by the loss of a generator that has no likelihood) than captions of other
records? And do the two languages produce the same picture: are samples of twins nearer to each
other than samples of strangers? (Every prompt has its own noise, so neither distance is 0.)"""

import dataclasses
from typing import Any

import numpy as np

from vilg.config import require
from vilg.evals.base import EvaluatedModel, Sampling, Scored
from vilg.evals.records import Pair, captioned_records
from vilg.metrics.intervals import interval
from vilg.types import Likelihood

LANGUAGES = ("zh", "en")


@dataclasses.dataclass(frozen=True)
class Twins(Sampling):
    """Evaluates `n` validation records, evenly spaced; each picture's caption competes with
    captions of `choices` - 1 other records of the set."""

    n: int = 128  # validation records, evenly spaced
    choices: int = 16  # captions that compete for a picture, its own among them

    def __post_init__(self) -> None:
        require(self.choices >= 2, "evals.twins.choices", self.choices, "must be at least 2")
        require(
            self.n >= 2 * self.choices,
            "evals.twins.n",
            self.n,
            f"must be at least twice evals.twins.choices={self.choices}",
        )

    def __call__(self, model: EvaluatedModel) -> dict[str, Any]:
        return self.measured(model)[0]

    def measured(self, model: EvaluatedModel) -> tuple[dict[str, Any], list[Scored]]:
        """The table, and two scores of every caption: whether it is the best of `choices` for its
        picture, and whether its sample is nearer to that picture than to another record's picture.
        """
        pairs = captioned_records(model, self.n, LANGUAGES, "evals.twins.n")
        truth = np.stack([p.image for p in pairs])
        codes = model.codes(truth)
        sampled = {g: self.samples(model, pairs, g) for g in LANGUAGES}
        result: dict[str, Any] = {}
        scored = []
        for g in LANGUAGES:
            result[g], matched = self.matching(model, pairs, codes, g)
            own, others = distances(sampled[g], truth), distances(sampled[g], np.roll(truth, 1, 0))
            nearer = float(np.mean(own < others))
            result[g] |= {"to_truth": float(own.mean()), "to_another_truth": float(others.mean())}
            result[g] |= {
                "nearer_to_truth": nearer,
                "nearer_to_truth_ci95": list(interval(nearer, len(pairs))),
            }
            rows = list(zip(pairs, matched, own < others, sampled[g], strict=True))
            scored += [
                Scored("own caption the best", p.captions[g], g, bool(best), None)
                for p, best, _, _ in rows
            ]
            scored += [
                Scored("sample nearer to its picture", p.captions[g], g, bool(near), image)
                for p, _, near, image in rows
            ]
        zh, en = sampled["zh"], sampled["en"]
        result["twins"] = float(distances(zh, en).mean())
        result["strangers"] = float(distances(zh, np.roll(en, 1, 0)).mean())
        return result | {"records": float(len(pairs))}, scored

    def fewer(self, n: int) -> "Twins":
        """n records, or as few as `choices` allows."""
        return dataclasses.replace(self, n=min(self.n, max(n, 2 * self.choices)))

    def matching(
        self, model: EvaluatedModel, pairs: list[Pair], codes: np.ndarray, language: str
    ) -> tuple[dict[str, object], np.ndarray]:
        """How often a picture's own caption is the best of `choices`, and nats a code (for a
        Ranker: the loss) with the own caption and with other captions. Also returns for each of the
        n records whether its own caption is the best, bool [n]."""
        n, likelihood = len(pairs), isinstance(model.experiment.model, Likelihood)
        # The other captions come from evenly spaced records, since neighbours in a data set are
        # often alike.
        shift = n // self.choices
        texts = [
            pairs[(i + k * shift) % n].captions[language]
            for k in range(self.choices)
            for i in range(n)
        ]
        method = "log_likelihood" if likelihood else "agreement"
        repeated_codes = np.concatenate([codes] * self.choices)
        scores = model.apply_to_texts(method, texts, [language] * len(texts), repeated_codes)
        scores = scores.reshape(self.choices, n)  # row 0: each picture with its own caption
        matched = scores[0] > scores[1:].max(0)
        own, other, positions = "loss_own", "loss_other_caption", 1
        if likelihood:
            own, other, positions = "nats_a_code", "nats_a_code_other_caption", codes[0].size
        numbers = {
            own: float(-scores[0].mean() / positions),
            other: float(-scores[1:].mean() / positions),
            "matched": float(matched.mean()),
            "matched_ci95": list(interval(float(matched.mean()), n)),
            "matched_by_chance": 1 / self.choices,
        }
        return numbers, matched

    def samples(self, model: EvaluatedModel, pairs: list[Pair], language: str) -> np.ndarray:
        """One sampled picture for each record."""
        samples = model.sample(
            [p.captions[language] for p in pairs],
            self.controls(model.experiment.model),
            0,
            [language] * len(pairs),
        )
        return np.stack([s.image for s in samples])

    def protocol(self) -> dict[str, Any]:
        """The settings that the numbers depend on."""
        return self.settings() | {
            "split": "valid",
            "distance": "root mean square of pixels in [0, 1], mean over pairs",
        }


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The root mean square difference of pixels in [0, 1] of each pair, [n]."""
    difference = (a.astype(np.float32) - b.astype(np.float32)) / 255
    return np.sqrt(np.mean(np.square(difference), (1, 2, 3)))
