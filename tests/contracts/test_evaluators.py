"""What every evaluator of the table promises, shown on a subject that guesses: an entry is tested
without being named here.
"""

import dataclasses
import json
import math
import types
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import tiny_config, tiny_diffusion, tiny_ranker
from vilg.config import build
from vilg.data.sources import caption_texts
from vilg.data.text import TextModel, train_text_model
from vilg.evals import EVALUATORS
from vilg.evals.base import EvaluatedModel, Evaluator, Sampling
from vilg.experiment import Experiment, build_experiment
from vilg.types import UserError

# Makes any evaluator that has the field quick.
FEW = dict(n=12, images=4, records=16, batches=1, batch_size=8, changes=4, choices=2)


class Guessing:
    """An EvaluatedModel and an EvaluatedRanker that answers at random, in the shapes that the
    protocols give.
    """

    params = frozen = None

    def __init__(self, experiment: Experiment, text_model: TextModel):
        self.experiment, self.text_model = experiment, text_model
        self.rng = np.random.default_rng(0)
        self.program = types.SimpleNamespace(
            batch_shards=1,
            evaluate_loss=lambda params, batch, frozen: {"loss": jnp.float32(1.0)},
            call=lambda method: lambda params, *rows: self.apply(method, *rows[:-1]),
        )

    def batched(self, call: Any, *arrays: np.ndarray) -> Any:
        return np.asarray(call(*arrays))

    def codes(self, images: np.ndarray) -> np.ndarray:
        return self.rng.integers(0, 8, (len(images), *self.experiment.image_codec.grid))

    def pictures(self, codes: np.ndarray) -> np.ndarray:
        size = self.experiment.image_codec.image_size
        return self.rng.integers(0, 256, (len(codes), size, size, 3)).astype(np.uint8)

    def sample(self, prompts, controls, seed=0, languages=None, number=1) -> list[Any]:
        images = iter(self.pictures(np.zeros(number * len(prompts))))
        return [
            types.SimpleNamespace(prompt=prompt, language=language, image=next(images))
            for prompt, language in zip(prompts, languages, strict=True)
            for _ in range(number)
        ]

    def caption(self, images, languages, controls, seed=0) -> list[Any]:
        words = {"zh": "一个红色圆形", "en": "a red circle"}
        return [types.SimpleNamespace(text=words[language]) for language in languages]

    def apply(self, method, *arrays, static=(), of_pictures=False) -> Any:
        return self.rng.random(len(arrays[0]))

    def apply_to_texts(self, method, texts, languages, *arrays) -> np.ndarray:
        return self.apply(method, np.zeros(len(texts)))

    def embed_images(self, images) -> np.ndarray:
        features = self.rng.normal(size=(len(images), 8))
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    def embed_texts(self, texts, languages) -> np.ndarray:
        return self.embed_images(texts)

    def best(self, samples, number, ranker) -> list[Any]:
        return list(samples[::number])

    def ranking(self, workdir, languages=()) -> "Guessing":
        return self


def codec_config() -> Any:
    """A codec's own experiment."""
    config = tiny_config().codec.experiment
    config.evals = {}
    return config


CONFIGS = (tiny_config, tiny_diffusion, tiny_ranker, codec_config)


def experiments_with(name: str) -> Iterator[Experiment]:
    """A transformer, a diffusion model, a ranker and a codec, each with the evaluator, if the
    experiment may have it. (A codec's own experiment may name an evaluator that samples, which is
    for the generators that share the section; it is not called there.)
    """
    few = {f.name: FEW[f.name] for f in dataclasses.fields(EVALUATORS[name]) if f.name in FEW}
    for make in CONFIGS:
        if make is codec_config and issubclass(EVALUATORS[name], Sampling):
            continue
        config = make()
        with config.unlocked():
            config.evals = {name: few}
        try:
            yield build_experiment(config)
        except UserError as error:
            assert str(error).startswith(f"evals.{name} "), error


@pytest.fixture(scope="module")
def text_model(tmp_path_factory) -> TextModel:
    place = tmp_path_factory.mktemp("text") / "text.model"
    train_text_model(caption_texts(build_experiment(tiny_config()).data.train, 100), 300, place)
    return TextModel(str(place))


def test_the_subject_that_guesses_has_the_whole_protocol(text_model):
    assert isinstance(Guessing(build_experiment(tiny_config()), text_model), EvaluatedModel)


@pytest.mark.parametrize("name", EVALUATORS)
def test_is_a_frozen_evaluator_whose_protocol_is_json(name):
    evaluator = EVALUATORS[name]()
    assert isinstance(evaluator, Evaluator) and EVALUATORS[name].__dataclass_params__.frozen
    protocol = evaluator.protocol()
    assert protocol and json.dumps(protocol)
    changed = [
        f.name
        for f in dataclasses.fields(evaluator)
        if f.name in ("n", "images", "records", "batches", "seed")
    ]
    for field in changed:  # what decides the numbers is told
        other = dataclasses.replace(evaluator, **{field: getattr(evaluator, field) + 1})
        assert other.protocol() != protocol, field


@pytest.mark.parametrize("name", EVALUATORS)
def test_an_unknown_field_is_a_sentence(name):
    with pytest.raises(UserError, match=rf"evals\.{name}\.numbr"):
        build(EVALUATORS[name], {"numbr": 3}, f"evals.{name}")


@pytest.mark.parametrize("name", EVALUATORS)
def test_gives_named_numbers_that_repeat(name, text_model):
    suited = 0
    for experiment in experiments_with(name):
        try:
            numbers = experiment.evals[name](Guessing(experiment, text_model))
        except UserError as error:  # not for this model
            assert str(error).startswith(f"evals.{name}"), error
            continue
        suited += 1
        assert numbers and json.dumps(numbers)
        for key, value in leaves(numbers):
            assert value is None or isinstance(value, str) or math.isfinite(value), (key, value)
        assert experiment.evals[name](Guessing(experiment, text_model)) == numbers
    assert suited, "no model of any kind can have this evaluator"


def leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """(path, value) of what is no mapping and no list."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in items:
        place = f"{path}/{key}"
        found += leaves(value, place) if isinstance(value, dict | list) else [(place, value)]
    return found
