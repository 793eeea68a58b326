"""What an evaluator is: a frozen dataclass (its fields are the config) that is called with a
Subject and gives named numbers.

Separate from the run, so that evaluators know what they ask of a model and not how it is restored
or sharded."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Subject(Protocol):
    """A model under evaluation (workdir/session.py). Pictures are uint8 [n, H, W, 3]."""

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

    def batched(self, call: Any, *arrays: np.ndarray) -> Any:
        """`call` on batches of one size, the last one filled up; results joined."""
        ...

    def codes(self, images: np.ndarray) -> np.ndarray:
        """Codes of pictures: what the generator draws."""
        ...

    def pictures(self, codes: np.ndarray) -> np.ndarray:
        """Pictures of codes."""
        ...

    def sample(
        self,
        prompts: Sequence[str],
        controls: Any,
        seed: int = 0,
        languages: Any = None,
        number: int = 1,
    ) -> list[Any]:
        """Pictures of prompts, with `image` each."""
        ...

    def caption(
        self, images: np.ndarray, languages: Sequence[str], controls: Any, seed: int = 0
    ) -> list[Any]:
        """Captions of pictures, with `text` each."""
        ...

    def log_likelihood(
        self, codes: np.ndarray, texts: Sequence[str], languages: Sequence[str]
    ) -> np.ndarray:
        """Nats of each picture's codes given each text."""
        ...

    def agreement(
        self, codes: np.ndarray, texts: Sequence[str], languages: Sequence[str]
    ) -> np.ndarray:
        """How well each text goes with each picture's codes; larger is better."""
        ...


class FeatureSubject(Subject, Protocol):
    """What evaluators of rankers, and those that choose by one, ask beside that."""

    def image_features(self, images: Any) -> np.ndarray:
        """Features [n, d] of unit length of pictures."""
        ...

    def text_features(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Features [n, d] of unit length of texts."""
        ...

    def best(self, made: Sequence[Any], number: int, ranker: str) -> list[Any]:
        """Of each `number` samples in a row the one that goes best with its prompt, by the run in
        the workdir `ranker`.
        """
        ...

    def ranking(self, workdir: str, languages: Iterable[str] = ()) -> "FeatureSubject":
        """The ranker's run of a workdir, which judges pictures by its features."""
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


@dataclasses.dataclass(frozen=True)
class Scored:
    """A prompt, the sample that it gave, and how good that is (larger is better; None where it
    cannot be told): what `vilg compare` pairs with another generator's. `cell` names the set of
    prompts, `parts` what is told apart, `about` is kept beside the picture; `image` is None where
    the score is not the sample's, or the sample is in another cell."""

    cell: str
    prompt: str
    language: str
    score: float | bool | None
    image: np.ndarray | None
    parts: Mapping[str, float | bool | None] = dataclasses.field(default_factory=dict)
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@runtime_checkable
class Paired(Protocol):
    """An evaluator that says what every prompt scored."""

    def measured(self, subject: Subject) -> tuple[dict[str, Any], list[Scored]]:
        """The numbers that the call gives, and every prompt's score."""
        ...

    def fewer(self, n: int) -> "Paired":
        """The same of about n prompts a cell, for curves."""
        ...


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Fields of an evaluator that samples: every option of every generator's sampler; what is left
    out is the generator's own default.

    Which of them a generator has, it says itself (`controls`); the others are an error when the
    experiment is built."""

    guidance: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    rescale: float | None = None
    sampler: str | None = None
    steps: int | None = None
    eta: float | None = None
    spacing: str | None = None
    first: float | None = None
    last: float | None = None

    def controls(self, generator: Any) -> Any:
        """The generator's controls with the fields that were given. Errors: UserError for one that
        it does not have.
        """
        names = [f.name for f in dataclasses.fields(Sampling)]
        return generator.controls(
            {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        )

    def check(self, generator: Any) -> None:
        """Errors: UserError unless the generator has all that was given."""
        if generator is not None:
            self.controls(generator)
