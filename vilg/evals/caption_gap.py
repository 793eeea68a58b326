"""Whether a diffusion generator minds its captions, and at which noise: the error with the own
caption and with another's.

Separate from the loss, which hides it: a model that ignores its captions has nearly the same loss
as one that obeys them. Every run ends with these figures; `vilg doctor` reads them, and warns where
training puts little of its noise where the caption matters (`verdict`)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from vilg.config import require
from vilg.evals.base import EvaluatedModel, Evaluator
from vilg.types import NoiseConditional, UserError

MATTERS = 0.5  # of the largest cost of another caption: from there on the caption is said to matter
DRAWN = 0.25  # of the training draws should fall where it does
MINDED = 0.05  # a smaller relative gap at every level is none


@dataclasses.dataclass(frozen=True)
class CaptionGap(Evaluator):
    """`levels` times evenly spread over all of time (the training draws are what is judged),
    `records` validation records.

    Errors are those of the clean codes (Process.error), with the same noise for both captions. A
    level's gap is relative, (other - own) / own, which shows a model that minds its captions a
    little; where the caption matters is told by the difference, since the own error of a good model
    is next to nothing at low noise."""

    levels: int = 12  # times, evenly spread over all of time
    records: int = 256  # validation records

    def __post_init__(self) -> None:
        require(self.levels >= 2, "evals.caption_gap.levels", self.levels, "must be at least 2")
        require(self.records >= 2, "evals.caption_gap.records", self.records, "must be at least 2")

    def __call__(self, model: EvaluatedModel) -> dict[str, Any]:
        generator = model.experiment.model
        if not isinstance(generator, NoiseConditional):
            raise UserError(
                "evals.caption_gap: this generator has no noise levels; remove the evaluator, or"
                " evaluate a diffusion generator"
            )
        errors_at = model.program.call("errors_at")
        text, codes = self._records(model)
        other = np.roll(text, 1, 0)
        times = [(k + 0.5) / self.levels for k in range(self.levels)]
        rows = []
        for t in times:
            own, others = (
                np.mean(
                    model.batched(
                        lambda i, c, t=t: errors_at(model.params, i, c, jnp.float32(t)), ids, codes
                    )
                )
                for ids in (text, other)
            )
            gap = float((others - own) / max(own, 1e-12))
            rows.append(
                {
                    "t": t,
                    "noise": float(generator.process.noise_level(t)),
                    "own": float(own),
                    "other": float(others),
                    "gap": gap,
                }
            )
        return {f"level_{k:02d}": row for k, row in enumerate(rows)} | summary(rows, generator)

    def _records(self, model: EvaluatedModel) -> tuple[np.ndarray, np.ndarray]:
        """(text ids, codes) of the first validation records."""
        experiment = model.experiment
        size = min(64, len(experiment.data.valid))
        stream = experiment.data.loader.once(
            experiment.data.valid,
            model.text_model,
            image_size=experiment.image_codec.image_size,
            text_length=experiment.data.text.length,
            batch_size=size,
            limit=self.records,
        )
        batches = [(b["text"][b["valid"]], b["image"][b["valid"]]) for b in stream]
        text, images = (np.concatenate(x) for x in zip(*batches, strict=True))
        return text, model.codes(images)

    def protocol(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return dataclasses.asdict(self) | {
            "split": "valid",
            "other": "the caption of the record before",
            "noise": "the same for both",
        }


def summary(rows: list[dict[str, float]], generator: Any) -> dict[str, float]:
    """The largest gap and the noise that it is at; the lowest and highest noise at which the
    caption matters, and the share of training draws that falls on such levels (0 where no caption
    costs anything)."""
    gaps = np.array([row["gap"] for row in rows])
    costs = np.array([row["other"] - row["own"] for row in rows])
    edges = np.arange(len(rows) + 1) / len(rows)
    drawn = np.diff(generator.process.cdf(edges))
    best = int(np.argmax(gaps))
    matters = np.flatnonzero(costs >= MATTERS * costs.max()) if costs.max() > 0 else np.arange(0)
    from_noise, to_noise = (
        (rows[k]["noise"] for k in matters[[0, -1]]) if len(matters) else (0.0, 0.0)
    )
    return {
        "largest": float(gaps[best]),
        "largest_at_noise": rows[best]["noise"],
        "matters_from_noise": from_noise,
        "matters_to_noise": to_noise,
        "drawn_where_it_matters": float(drawn[matters].sum()),
    }


def verdict(figures: Mapping[str, float]) -> str:
    """What doctor says of the figures."""
    if figures["largest"] < MINDED:
        return (
            f"note: captions change the error by {figures['largest']:.1%} at most; train longer, or"
            " move the noise (generator.process.times, .schedule): see"
            " experiments/ablations/noise.py"
        )
    if figures["drawn_where_it_matters"] < DRAWN:
        return (
            f"note: {figures['drawn_where_it_matters']:.0%} of the training draws fall where the"
            f" caption matters, at noise {figures['matters_from_noise']:.2g} to"
            f" {figures['matters_to_noise']:.2g}; centre generator.process.times there"
        )
    return "ok"
