"""Whether a diffusion generator uses its captions, and at which noise level: the error with a
record's own caption against the error with another record's caption.

The file is separate from the loss, because the loss hides the difference: a model that ignores its
captions has nearly the same loss as a model that follows them. Every run ends with these figures;
`vilg doctor` reads them, and warns where training draws few of its noise levels where the caption
matters (`verdict`)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from vilg.config import require
from vilg.evals.base import EvaluatedModel, Evaluator
from vilg.types import NoiseConditional, UserError

# The cost of another caption is the error that it adds. The caption matters at the levels where
# the cost is at least this share of the largest cost.
MATTERS_SHARE = 0.5
DRAWN_SHARE = 0.25  # the share of training draws that should fall where the caption matters
SMALLEST_GAP = 0.05  # a model whose relative gap is smaller at every level ignores its captions


@dataclasses.dataclass(frozen=True)
class CaptionGap(Evaluator):
    """Evaluates at `levels` times, spread evenly over all of time rather than by the training
    distribution, which is itself under judgement, on `records` validation records.

    The errors are errors of the clean codes (Process.error), with the same noise for both captions.
    A level's gap is relative, (other - own) / own, so it also shows a model that uses its captions
    only a little. Where the caption matters is decided by the difference other - own instead: at
    low noise the own error of a good model is next to nothing, so the relative gap is large there
    without meaning."""

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
        """The settings that the numbers depend on."""
        return dataclasses.asdict(self) | {
            "split": "valid",
            "other": "the caption of the record before",
            "noise": "the same for both",
        }


def summary(rows: list[dict[str, float]], generator: Any) -> dict[str, float]:
    """Summarizes the levels.

    Returns the largest gap and its noise level; the lowest and highest noise level at which the
    caption matters; and the share of training draws that falls on such levels (0 where another
    caption raises the error nowhere)."""
    gaps = np.array([row["gap"] for row in rows])
    costs = np.array([row["other"] - row["own"] for row in rows])
    edges = np.arange(len(rows) + 1) / len(rows)
    drawn = np.diff(generator.process.cdf(edges))
    best = int(np.argmax(gaps))
    caption_matters = (costs > 0) & (costs >= MATTERS_SHARE * costs.max())
    matters = np.flatnonzero(caption_matters)
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
    """The line that `vilg doctor` prints about the figures."""
    if figures["largest"] < SMALLEST_GAP:
        return (
            f"note: captions change the error by {figures['largest']:.1%} at most; train longer, or"
            " move the noise (generator.process.times, .schedule): see"
            " experiments/ablations/noise.py"
        )
    if figures["drawn_where_it_matters"] < DRAWN_SHARE:
        return (
            f"note: {figures['drawn_where_it_matters']:.0%} of the training draws fall where the"
            f" caption matters, at noise {figures['matters_from_noise']:.2g} to"
            f" {figures['matters_to_noise']:.2g}; centre generator.process.times there"
        )
    return "ok"
