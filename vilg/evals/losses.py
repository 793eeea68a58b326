"""The training loss on held-out records, on the same batches every time, so that the order of the
data adds no noise."""

import dataclasses
from typing import Any

import numpy as np

from vilg.config import require
from vilg.evals.base import EvaluatedModel, Evaluator


@dataclasses.dataclass(frozen=True)
class Losses(Evaluator):
    """Mean loss terms over the first `batches` batches of the validation source."""

    batches: int = 4  # batches of the validation source
    batch_size: int = 64  # rows of a batch

    def __post_init__(self) -> None:
        require(self.batches > 0, "evals.losses.batches", self.batches, "must be at least 1")

    def __call__(self, model: EvaluatedModel) -> dict[str, float]:
        program, experiment = model.program, model.experiment
        size = -(-self.batch_size // program.batch_shards) * program.batch_shards
        totals: dict[str, list[float]] = {}
        stream = experiment.data.loader.once(
            experiment.data.valid,
            model.text_model,
            image_size=experiment.image_codec.image_size,
            text_length=experiment.data.text.length,
            batch_size=size,
            limit=size * self.batches,
        )
        for batch in stream:
            if not batch["valid"].all():
                continue  # the padding of a batch repeats records, which would count twice
            # the training step reads the pictures and texts only, not the mark `valid`
            arrays = {k: v for k, v in batch.items() if k in ("image", "text")}
            for name, value in program.evaluate_loss(model.params, arrays, model.frozen).items():
                totals.setdefault(name, []).append(float(value))
        require(
            bool(totals),
            "evals.losses.batch_size",
            self.batch_size,
            f"is more than the {len(experiment.data.valid)} validation records; give at most that"
            " many",
        )
        return {name: float(np.mean(values)) for name, values in totals.items()}

    def protocol(self) -> dict[str, Any]:
        """The records that the losses are taken on."""
        return {"split": "valid", "records": self.batches * self.batch_size}
