"""What a Chinese prompt and its English twin give, on records that have a caption in both: for data that no scorer can read.

Two questions that pixels and the model's own judgement answer without another model. Does a caption tell the model which picture is
meant: does the picture's own caption go with it better (likelihood, or the loss of a generator that has none) than captions of other
records? And do the two languages give one picture: are samples of twins
nearer to each other than samples of strangers? (Every prompt has noise of its own, so neither distance is 0.)
"""

import dataclasses
from typing import Any

import numpy as np

from vilg.config import require
from vilg.evals.base import Sampling, Subject
from vilg.evals.records import Pair, captioned_records
from vilg.metrics.intervals import interval
from vilg.types import Likelihood

LANGUAGES = ("zh", "en")


@dataclasses.dataclass(frozen=True)
class Twins(Sampling):
    """`n` validation records, evenly spaced; each picture's caption against those of `choices` - 1 other records of the set."""

    n: int = 128
    choices: int = 16

    def __post_init__(self) -> None:
        require(self.choices >= 2, "evals.twins.choices", self.choices, "must be at least 2")
        require(self.n >= 2 * self.choices, "evals.twins.n", self.n, f"must be at least twice evals.twins.choices={self.choices}")

    def __call__(self, subject: Subject) -> dict[str, Any]:
        pairs = captioned_records(subject, self.n, LANGUAGES, "evals.twins.n")
        codes = subject.codes(np.stack([p.image for p in pairs]))
        made = {g: self.samples(subject, pairs, g) for g in LANGUAGES}
        truth = np.stack([p.image for p in pairs])
        result: dict[str, Any] = {g: self.matching(subject, pairs, codes, g) for g in LANGUAGES}
        for g in LANGUAGES:
            result[g] |= {"to_truth": distance(made[g], truth), "to_another_truth": distance(made[g], np.roll(truth, 1, 0))}
        result["twins"] = distance(made["zh"], made["en"])
        result["strangers"] = distance(made["zh"], np.roll(made["en"], 1, 0))
        return result | {"records": float(len(pairs))}

    def matching(self, subject: Subject, pairs: list[Pair], codes: np.ndarray, language: str) -> dict[str, Any]:
        """How often the own caption is the best of `choices`; nats a code (or the loss, of a Ranker) with it and with others'."""
        n, likelihood = len(pairs), isinstance(subject.experiment.generator, Likelihood)
        shift = n // self.choices  # evenly spaced others: neighbours in a data set are often alike
        texts = [pairs[(i + k * shift) % n].captions[language] for k in range(self.choices) for i in range(n)]
        ask = subject.log_likelihood if likelihood else subject.agreement
        scores = ask(np.concatenate([codes] * self.choices), texts, [language] * len(texts)).reshape(self.choices, n)
        matched = scores[0] > scores[1:].max(0)
        own, other = ("nats_a_code", "nats_a_code_other_caption") if likelihood else ("loss_own", "loss_other_caption")
        positions = codes[0].size if likelihood else 1
        return {
            own: float(-scores[0].mean() / positions),
            other: float(-scores[1:].mean() / positions),
            "matched": float(matched.mean()),
            "matched_ci95": list(interval(float(matched.mean()), n)),
            "matched_by_chance": 1 / self.choices,
        }

    def samples(self, subject: Subject, pairs: list[Pair], language: str) -> np.ndarray:
        """One picture a record."""
        made = subject.sample([p.captions[language] for p in pairs], self.controls(subject.experiment.generator), 0, [language] * len(pairs))
        return np.stack([m.image for m in made])

    def protocol(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return dataclasses.asdict(self) | {"split": "valid", "distance": "root mean square of pixels in [0, 1], mean over pairs"}


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over pairs of the root mean square difference of pixels in [0, 1]."""
    difference = (a.astype(np.float32) - b.astype(np.float32)) / 255
    return float(np.sqrt(np.mean(np.square(difference), (1, 2, 3))).mean())
