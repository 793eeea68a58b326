"""The section `training` of an experiment."""

import dataclasses
from typing import Any

from vilg.config import require


@dataclasses.dataclass(frozen=True)
class Training:
    """Cadence. Budgets are updates, never clock time; `batch_size` is global. A zero switches the
    periodic thing off.
    """

    steps: int
    batch_size: int
    accumulation: int = 1
    ema: float = 0.0
    checkpoint_every: int = 200
    log_every: int = 10
    evaluate_every: int = 0
    sample_every: int = 0
    keep_last: int = 2
    keep_best: int = 1
    # workdir of another run of the same model, whose parameters (and text model) this one starts
    # from
    start_from: str = ""
    # that other run's experiment: without start_from it is trained first, into WORKDIR/first (a
    # curriculum)
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
