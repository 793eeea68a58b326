"""What an evaluator is: a frozen dataclass (its fields are the config) that is called with a Subject and gives named numbers.

Separate from the run, so that evaluators know what they ask of a model and not how it is restored or sharded.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vilg.generators.guidance import Controls


@runtime_checkable
class Subject(Protocol):
    """A model under evaluation (run/session.py). Pictures are uint8 [n, H, W, 3]."""

    @property
    def experiment(self) -> Any:
        """The run's Experiment."""
        ...

    @property
    def program(self) -> Any:
        """Its Program."""
        ...

    @property
    def params(self) -> Any:
        """The trained parameters."""
        ...

    @property
    def frozen(self) -> Any:
        """The codec's parameters."""
        ...

    @property
    def text_model(self) -> Any:
        """The run's text model."""
        ...

    def codes(self, images: np.ndarray) -> np.ndarray:
        """Codes [n, y, x] of pictures."""
        ...

    def pictures(self, codes: np.ndarray) -> np.ndarray:
        """Pictures of codes."""
        ...

    def sample(self, prompts: Sequence[str], controls: Controls, seed: int = 0, languages: Any = None, number: int = 1) -> list[Any]:
        """Pictures of prompts, with `image` each."""
        ...

    def caption(self, images: np.ndarray, languages: Sequence[str], controls: Controls, seed: int = 0) -> list[Any]:
        """Captions of pictures, with `text` each."""
        ...


    def log_likelihood(self, codes: np.ndarray, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Nats of each picture's codes given each text."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """Numbers about a subject; `protocol` says what decides them beside the model."""

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Named numbers."""
        ...

    def protocol(self) -> dict[str, Any]:
        """What anybody has to hold equal to compare these numbers."""
        ...


def interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % Wilson interval of a share that was measured on n trials (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
