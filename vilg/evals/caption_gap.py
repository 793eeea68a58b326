"""Whether a diffusion generator minds its captions, and at which noise: the loss with the own caption against that with another's.

Separate from the loss, which hides it: a model that ignores its captions has nearly the same loss as one that obeys them. Every run ends
with this figure; `vilg doctor` reads it, and warns where training puts little of its noise where the caption matters (`verdict`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from vilg.config import require
from vilg.evals.base import Subject
from vilg.types import Levelled, UserError

MATTERS = 0.5  # of the largest gap: from there on the caption is said to matter
DRAWN = 0.15  # of the training draws should fall where it does
MINDED = 0.05  # a smaller relative gap at every level is none


@dataclasses.dataclass(frozen=True)
class CaptionGap:
    """`levels` times evenly spread over all of time (the training draws are what is judged), `records` validation records.

    A level's gap is (loss with another record's caption - loss with the own) / loss with the own, both with the same noise: the weighting
    of the loss cancels out.
    """

    levels: int = 12
    records: int = 256

    def __post_init__(self) -> None:
        require(self.levels >= 2, "evals.caption_gap.levels", self.levels, "must be at least 2")
        require(self.records >= 2, "evals.caption_gap.records", self.records, "must be at least 2")

    def __call__(self, subject: Subject) -> dict[str, Any]:
        generator = subject.experiment.generator
        if not isinstance(generator, Levelled):
            raise UserError("evals.caption_gap: this generator has no noise levels; remove the evaluator, or evaluate a diffusion generator")
        text, codes = self._records(subject)
        other = np.roll(text, 1, 0)
        times = [(k + 0.5) / self.levels for k in range(self.levels)]
        rows = []
        for t in times:
            own, others = (
                np.mean(subject.batched(lambda i, c, t=t: subject.program.losses_at(subject.params, i, c, jnp.float32(t)), ids, codes))
                for ids in (text, other)
            )
            gap = float((others - own) / max(own, 1e-12))
            rows.append({"t": t, "noise": float(generator.process.noise(t)), "own": float(own), "other": float(others), "gap": gap})
        return {f"level_{k:02d}": row for k, row in enumerate(rows)} | summary(rows, generator)

    def _records(self, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
        """(text ids, codes) of the first validation records."""
        experiment = subject.experiment
        size = min(64, len(experiment.data.valid))
        stream = experiment.data.loader.once(
            experiment.data.valid,
            subject.text_model,
            image_size=experiment.codec.image_size,
            text_length=experiment.data.text.length,
            batch_size=size,
            limit=self.records,
        )
        batches = [(b["text"][b["valid"]], b["image"][b["valid"]]) for b in stream]
        text, images = (np.concatenate(x) for x in zip(*batches, strict=True))
        return text, subject.codes(images)

    def protocol(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return dataclasses.asdict(self) | {"split": "valid", "other": "the caption of the record before", "noise": "the same for both"}


def summary(rows: list[dict[str, float]], generator: Any) -> dict[str, float]:
    """The largest gap, the noise that it is at, and the share of training draws that falls on levels where the caption matters."""
    gaps = np.array([row["gap"] for row in rows])
    edges = np.arange(len(rows) + 1) / len(rows)
    drawn = np.diff(generator.process.mass(edges))
    best = int(np.argmax(gaps))
    share = float(drawn[gaps >= MATTERS * gaps[best]].sum()) if gaps[best] > 0 else 0.0
    return {"largest": float(gaps[best]), "largest_at_noise": rows[best]["noise"], "drawn_where_it_matters": share}


def verdict(figures: Mapping[str, float]) -> str:
    """What doctor says of the figures."""
    if figures["largest"] < MINDED:
        return (
            f"note: captions change the loss by {figures['largest']:.1%} at most; train longer, or move the noise "
            "(generator.process.times, .schedule): see experiments/ablations/noise.py"
        )
    if figures["drawn_where_it_matters"] < DRAWN:
        return (
            f"note: {figures['drawn_where_it_matters']:.0%} of the training draws fall where the caption matters, around noise "
            f"{figures['largest_at_noise']:.2g}; centre generator.process.times there"
        )
    return "ok"
