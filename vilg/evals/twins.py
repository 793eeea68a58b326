"""What a Chinese prompt and its English twin give, on records that have a caption in both: for data
that no scorer can read.

Two questions that pixels and the model's own judgement answer without another model. Does a caption
tell the model which picture is meant: does the picture's own caption go with it better (likelihood,
or the loss of a generator that has none) than captions of other records? And do the two languages
give one picture: are samples of twins nearer to each other than samples of strangers? (Every prompt
has noise of its own, so neither distance is 0.)"""

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
    """`n` validation records, evenly spaced; each picture's caption against those of `choices` - 1
    other records of the set.
    """

    n: int = 128  # validation records, evenly spaced
    choices: int = 16  # captions to tell a picture's own from, the own one among them

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
        """The table, and of every caption whether it is the best of `choices` for its picture, and
        whether its sample is nearer to that picture than to another record's."""
        pairs = captioned_records(model, self.n, LANGUAGES, "evals.twins.n")
        codes = model.codes(np.stack([p.image for p in pairs]))
        made = {g: self.samples(model, pairs, g) for g in LANGUAGES}
        truth = np.stack([p.image for p in pairs])
        result: dict[str, Any] = {}
        scored = []
        for g in LANGUAGES:
            result[g], matched = self.matching(model, pairs, codes, g)
            own, others = distances(made[g], truth), distances(made[g], np.roll(truth, 1, 0))
            nearer = float(np.mean(own < others))
            result[g] |= {"to_truth": float(own.mean()), "to_another_truth": float(others.mean())}
            result[g] |= {
                "nearer_to_truth": nearer,
                "nearer_to_truth_ci95": list(interval(nearer, len(pairs))),
            }
            rows = list(zip(pairs, matched, own < others, made[g], strict=True))
            scored += [
                Scored("own caption the best", p.captions[g], g, bool(best), None)
                for p, best, _, _ in rows
            ]
            scored += [
                Scored("sample nearer to its picture", p.captions[g], g, bool(near), image)
                for p, _, near, image in rows
            ]
        result["twins"] = float(distances(made["zh"], made["en"]).mean())
        result["strangers"] = float(distances(made["zh"], np.roll(made["en"], 1, 0)).mean())
        return result | {"records": float(len(pairs))}, scored

    def fewer(self, n: int) -> "Twins":
        """n records, or as few as `choices` allows."""
        return dataclasses.replace(self, n=min(self.n, max(n, 2 * self.choices)))

    def matching(
        self, model: EvaluatedModel, pairs: list[Pair], codes: np.ndarray, language: str
    ) -> tuple[dict[str, Any], np.ndarray]:
        """How often the own caption is the best of `choices`; nats a code (or the loss, of a
        Ranker) with it and with others'. And of which records [n] it is."""
        n, likelihood = len(pairs), isinstance(model.experiment.model, Likelihood)
        shift = n // self.choices  # evenly spaced others: neighbours in a data set are often alike
        texts = [
            pairs[(i + k * shift) % n].captions[language]
            for k in range(self.choices)
            for i in range(n)
        ]
        method = "log_likelihood" if likelihood else "agreement"
        every = np.concatenate([codes] * self.choices)
        scores = model.apply_to_texts(method, texts, [language] * len(texts), every)
        scores = scores.reshape(self.choices, n)
        matched = scores[0] > scores[1:].max(0)
        own, other = (
            ("nats_a_code", "nats_a_code_other_caption")
            if likelihood
            else ("loss_own", "loss_other_caption")
        )
        positions = codes[0].size if likelihood else 1
        numbers = {
            own: float(-scores[0].mean() / positions),
            other: float(-scores[1:].mean() / positions),
            "matched": float(matched.mean()),
            "matched_ci95": list(interval(float(matched.mean()), n)),
            "matched_by_chance": 1 / self.choices,
        }
        return numbers, matched

    def samples(self, model: EvaluatedModel, pairs: list[Pair], language: str) -> np.ndarray:
        """One picture a record."""
        made = model.sample(
            [p.captions[language] for p in pairs],
            self.controls(model.experiment.model),
            0,
            [language] * len(pairs),
        )
        return np.stack([m.image for m in made])

    def protocol(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return self.settings() | {
            "split": "valid",
            "distance": "root mean square of pixels in [0, 1], mean over pairs",
        }


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The root mean square difference of pixels in [0, 1] of each pair, [n]."""
    difference = (a.astype(np.float32) - b.astype(np.float32)) / 255
    return np.sqrt(np.mean(np.square(difference), (1, 2, 3)))
