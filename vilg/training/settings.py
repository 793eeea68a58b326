"""The section `training` of an experiment."""

import dataclasses
from typing import Any

from vilg.config import require


@dataclasses.dataclass(frozen=True)
class Training:
    """How long a run trains and how often it saves, logs and evaluates. Budgets are counted in
    updates and not in clock time. A cadence of 0 switches that activity off.
    """

    steps: int  # updates
    batch_size: int  # rows of an update, over all devices
    accumulation: int = 1  # microbatches of an update, one after the other
    ema: float = 0.0  # decay of the parameters' moving average, which sampling uses; 0: none
    checkpoint_every: int = 200  # updates between checkpoints
    log_every: int = 10  # updates between lines of metrics.jsonl
    evaluate_every: int = 0  # updates between evaluations; 0: none while training
    sample_every: int = 0  # updates between pictures of samples; 0: none while training
    keep_last: int = 2  # newest checkpoints that are kept
    keep_best: int = 1  # checkpoints of lowest validation loss that are kept beside them
    # workdir of another run of the same model: this run starts from that run's parameters and text
    # model
    start_from: str = ""
    # the experiment of a run that is trained before this one, into WORKDIR/first, and from whose
    # parameters this run starts (a curriculum); start_from takes its place
    first: Any = None

    def __post_init__(self) -> None:
        for field in (
            "steps",
            "batch_size",
            "accumulation",
            "checkpoint_every",
            "log_every",
            "keep_last",
        ):
            require(
                getattr(self, field) > 0,
                f"training.{field}",
                getattr(self, field),
                "must be at least 1",
            )
        require(self.ema < 1, "training.ema", self.ema, "must be below 1; 0 keeps no average")
