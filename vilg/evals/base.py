"""The base classes of evaluators. An evaluator is a frozen dataclass whose fields are its config;
it is called with a model under evaluation and returns named numbers.

The file is separate from the run, so that an evaluator states what it asks of a model without
knowing how the model is restored or sharded."""

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
    """A model under evaluation (implemented in workdir/session.py). Pictures are uint8 [n, H, W,
    3]."""

    @property
    def experiment(self) -> Any:
        """The Experiment of the run."""
        ...

    @property
    def program(self) -> Any:
        """The Program of the run."""
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
        """The text model of the run."""
        ...

    def batched(self, call: object, *arrays: np.ndarray) -> Any:
        """Calls `call` on batches of one size, the last one padded, and joins the results."""
        ...

    def codes(self, images: np.ndarray) -> np.ndarray:
        """Encodes pictures with the codec: the arrays that the generator generates."""
        ...

    def pictures(self, codes: np.ndarray) -> np.ndarray:
        """Decodes codes to pictures with the codec."""
        ...

    def sample(
        self,
        prompts: Sequence[str],
        controls: Any,
        seed: int = 0,
        languages: Any = None,
        number: int = 1,
    ) -> list[Any]:
        """Samples pictures for prompts; each sample has its picture in `image`."""
        ...

    def caption(
        self, images: np.ndarray, languages: Sequence[str], controls: Any, seed: int = 0
    ) -> list[Any]:
        """Captions pictures; each caption has its words in `text`."""
        ...

    def apply(
        self, method: str, *arrays: np.ndarray, static: tuple = (), of_pictures: bool = False
    ) -> Any:
        """Calls a method of the model on rows [n, ...] in batches, and joins the arrays that it
        returns."""
        ...

    def apply_to_texts(
        self, method: str, texts: Sequence[str], languages: Sequence[str], *arrays: np.ndarray
    ) -> np.ndarray:
        """`apply` for a method whose first array is text ids; returns a number or a row for each
        text."""
        ...


class EvaluatedRanker(EvaluatedModel, Protocol):
    """The further methods that evaluators of rankers, and evaluators that rerank, call."""

    def embed_images(self, images: object) -> np.ndarray:
        """Features [n, d] of unit length of pictures."""
        ...

    def embed_texts(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Features [n, d] of unit length of texts."""
        ...

    def best(self, samples: Sequence[object], number: int, ranker: str) -> list[Any]:
        """Of every `number` consecutive samples, the sample that fits its prompt best, as judged by
        the run in the workdir `ranker`."""
        ...

    def ranking(self, workdir: str, languages: Iterable[str] = ()) -> "EvaluatedRanker":
        """The ranker's run in a workdir, which judges pictures by its features."""
        ...


class Evaluator:
    """Base class of evaluators: a call returns numbers about a model, and `protocol` states what
    determines them besides the model."""

    def __call__(self, model: Any) -> dict[str, Any]:
        """Named numbers of an EvaluatedModel, in groups."""
        raise AssertionError(f"{type(self).__name__} gives no numbers")

    def protocol(self) -> dict[str, Any]:
        """The settings that must be equal before two models' numbers can be compared."""
        raise AssertionError(f"{type(self).__name__} has no protocol")

    def check(self, model: Model, path: str) -> None:
        """Checks that the experiment's model can do what this evaluator asks of it; `path` is the
        evaluator's section of the config. Errors: UserError."""

    def without_captions(self) -> "Evaluator":
        """The same evaluator without its captions: options of the picture sampler do not change
        them."""
        return self


def check_capability(model: Model, capability: type, path: str, asks: str) -> None:
    """Checks that a model has a capability, a protocol of vilg/types.py. Errors: UserError."""
    if not isinstance(model, capability):
        names = {kind: repr(name) for name, kind in (GENERATORS | RANKERS).items()}
        name = names.get(type(model), f"a {model.role}")
        raise UserError(f"{path} {asks}, which {name} cannot do; remove {path}")


@dataclasses.dataclass(frozen=True)
class Scored:
    """A prompt, its sample, and the sample's score (larger is better; None where it cannot be
    determined). `vilg compare` pairs it with another generator's score for the same prompt.

    `cell` names the set of prompts, `parts` holds the scores of single aspects, and `about` is
    stored beside the picture. `image` is None where the score does not belong to a sample, or where
    another cell already holds the sample."""

    cell: str
    prompt: str
    language: str
    score: float | bool | None
    image: np.ndarray | None
    parts: Mapping[str, float | bool | None] = dataclasses.field(default_factory=dict)
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@runtime_checkable
class Paired(Protocol):
    """An evaluator that also returns the score of every prompt."""

    def measured(self, model: EvaluatedModel) -> tuple[dict[str, Any], list[Scored]]:
        """The numbers that a call returns, and the score of every prompt."""
        ...

    def fewer(self, n: int) -> "Paired":
        """The same evaluator with about n prompts a cell, for curves."""
        ...


@dataclasses.dataclass(frozen=True)
class Sampling(Evaluator):
    """An evaluator that samples. `sampling` holds the sampler's options by name; each generator has
    a set of its own (generators/options.py), and an option that is left out has the generator's
    default.

    In a config the options stand in the evaluator's section itself: `scenes=dict(n=256,
    guidance=2.0)`."""

    # options of the sampler, which are written in the section itself
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def controls(self, generator: Generator) -> Any:
        """The generator's sampling options. Errors: UserError for an option that it lacks."""
        return generator.controls(self.sampling)

    def with_sampling(self, **changes: object) -> "Sampling":
        """The same evaluator with some of the sampler's options, or of the evaluator's fields,
        changed.

        Errors: TypeError for a name that is neither."""
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
        """The evaluator's fields and every sampling option, as `protocol` returns them."""
        fields = dataclasses.asdict(self)
        options = fields.pop("sampling")
        return {name: options.get(name) for name in SAMPLING_OPTIONS} | fields


@dataclasses.dataclass(frozen=True)
class Reranking(Sampling):
    """An evaluator that samples and can judge the best of `best_of` samples of each prompt, chosen
    by the features of `ranker`, the workdir of a dual encoder."""

    best_of: int = 1  # samples of each prompt, of which `ranker` chooses the best
    ranker: str = ""  # workdir of the dual encoder that chooses

    def with_ranker(self, best_of: int, ranker: str) -> "Reranking":
        """The same evaluator, judging the best of `best_of` samples."""
        return dataclasses.replace(self, best_of=best_of, ranker=ranker)


def sampling_apart(
    fields: Mapping[str, object], path: str
) -> tuple[dict[str, object], dict[str, object]]:
    """Splits a section of evals: the evaluator's fields, and {"sampling": the sampler's options}.

    Errors: UserError for an option of the wrong type."""
    options = {
        name: as_type(value, SAMPLING_OPTIONS[name].type, f"{path}.{name}")
        for name, value in fields.items()
        if name in SAMPLING_OPTIONS and value is not None
    }
    rest = {name: value for name, value in fields.items() if name not in SAMPLING_OPTIONS}
    return rest, {"sampling": options}
