"""What an evaluator is: a frozen dataclass (its fields are the config) that is called with a model
under evaluation and gives named numbers.

Separate from the run, so that evaluators know what they ask of a model and not how it is restored
or sharded."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from vilg.config import as_type
from vilg.generators import GENERATORS, RANKERS
from vilg.generators.options import SAMPLING_OPTIONS
from vilg.types import Generator, Model, UserError


@runtime_checkable
class EvaluatedModel(Protocol):
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

    def apply(
        self, method: str, *arrays: np.ndarray, static: tuple = (), of_pictures: bool = False
    ) -> Any:
        """A method of the model on rows [n, ...], in batches: its arrays joined."""
        ...

    def apply_to_texts(
        self, method: str, texts: Sequence[str], languages: Sequence[str], *arrays: np.ndarray
    ) -> np.ndarray:
        """`apply` of a method whose first array is text ids: a number or a row a text."""
        ...


class EvaluatedRanker(EvaluatedModel, Protocol):
    """What evaluators of rankers, and those that choose by one, ask beside that."""

    def embed_images(self, images: Any) -> np.ndarray:
        """Features [n, d] of unit length of pictures."""
        ...

    def embed_texts(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Features [n, d] of unit length of texts."""
        ...

    def best(self, made: Sequence[Any], number: int, ranker: str) -> list[Any]:
        """Of each `number` samples in a row the one that goes best with its prompt, by the run in
        the workdir `ranker`.
        """
        ...

    def ranking(self, workdir: str, languages: Iterable[str] = ()) -> "EvaluatedRanker":
        """The ranker's run of a workdir, which judges pictures by its features."""
        ...


class Evaluator:
    """Base class of evaluators: numbers about a model; `protocol` says what decides them beside the
    model.
    """

    def __call__(self, model: Any) -> dict[str, Any]:
        """Named numbers of an EvaluatedModel, in groups."""
        raise AssertionError(f"{type(self).__name__} gives no numbers")

    def protocol(self) -> dict[str, Any]:
        """What anybody has to hold equal to compare these numbers."""
        raise AssertionError(f"{type(self).__name__} has no protocol")

    def check(self, model: Model, path: str) -> None:
        """Checks that the experiment's model can do what this evaluator, whose section is `path`,
        asks of it. Errors: UserError.
        """

    def without_captions(self) -> "Evaluator":
        """The same evaluator without captions, which the sampler's options do not change."""
        return self


def check_capability(model: Model, capability: type, path: str, asks: str) -> None:
    """Errors: UserError where the model lacks a capability, a protocol of vilg/types.py."""
    if not isinstance(model, capability):
        names = {kind: repr(name) for name, kind in (GENERATORS | RANKERS).items()}
        name = names.get(type(model), f"a {model.role}")
        raise UserError(f"{path} {asks}, which {name} cannot; remove it")


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

    def measured(self, model: EvaluatedModel) -> tuple[dict[str, Any], list[Scored]]:
        """The numbers that the call gives, and every prompt's score."""
        ...

    def fewer(self, n: int) -> "Paired":
        """The same of about n prompts a cell, for curves."""
        ...


@dataclasses.dataclass(frozen=True)
class Sampling(Evaluator):
    """An evaluator that samples. `sampling` holds the sampler's options by name, of which every
    generator has its own (generators/options.py); an option that is left out has the generator's
    default. In a config the options stand in the section itself: `scenes=dict(n=256,
    guidance=2.0)`."""

    # options of the sampler, which stand in the section itself
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def controls(self, generator: Generator) -> Any:
        """The generator's sampling options. Errors: UserError for an option that it lacks."""
        return generator.controls(self.sampling)

    def with_sampling(self, **changes: Any) -> "Sampling":
        """The same evaluator with some of the sampler's options, or of its own fields, changed.

        Errors: TypeError for a name that is neither.
        """
        options = {n: v for n, v in changes.items() if n in SAMPLING_OPTIONS}
        fields = {n: v for n, v in changes.items() if n not in SAMPLING_OPTIONS}
        return dataclasses.replace(self, sampling={**self.sampling, **options}, **fields)

    @property
    def base_seed(self) -> int:
        """The seed of the first sample of each prompt."""
        return 0

    def check(self, model: Model, path: str) -> None:
        """Errors: UserError unless the model is a codec, or samples with these options."""
        if model.role != "codec":
            check_capability(model, Generator, path, "samples pictures")
            self.controls(cast(Generator, model))

    def settings(self) -> dict[str, Any]:
        """The fields, the sampler's options among them, as `protocol` tells them."""
        fields = dataclasses.asdict(self)
        given = fields.pop("sampling")
        return {name: given.get(name) for name in SAMPLING_OPTIONS} | fields


@dataclasses.dataclass(frozen=True)
class Reranking(Sampling):
    """An evaluator that samples and can look at the best of `best_of` samples a prompt, by the
    features of `ranker`, a dual encoder's workdir.
    """

    best_of: int = 1  # samples of each prompt, of which `ranker` chooses the best
    ranker: str = ""  # workdir of the dual encoder that chooses

    def with_ranker(self, best_of: int, ranker: str) -> "Reranking":
        """The same evaluator, looking at the best of so many samples."""
        return dataclasses.replace(self, best_of=best_of, ranker=ranker)


def sampling_apart(fields: Mapping[str, Any], path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a section of evals, and {"sampling": the sampler's options among them}.

    Errors: UserError for an option of the wrong type.
    """
    options = {
        name: as_type(value, SAMPLING_OPTIONS[name].type, f"{path}.{name}")
        for name, value in fields.items()
        if name in SAMPLING_OPTIONS and value is not None
    }
    rest = {name: value for name, value in fields.items() if name not in SAMPLING_OPTIONS}
    return rest, {"sampling": options}
