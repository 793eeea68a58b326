"""A training example: one record, the caption that is chosen from it, and what a batch holds of it.

Everything random about an example (language, wording, crop, knowledge) is drawn from (seed, epoch,
record index), so that an example is the same whatever process makes it, and in whatever order."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from vilg.data.knowledge import Knowledge, TrainingPrompt
from vilg.data.records import Record, largest_square, random_bits, to_square
from vilg.data.text import TextModel


@dataclass(frozen=True)
class Sizes:
    """The sizes that the shapes of a batch's arrays depend on."""

    image_size: int  # pixels along a side
    text_length: int = 0  # ids in a row of text, special ones included
    grid: tuple[int, int] | None = None  # rows and columns of the codec's codes


@dataclass(frozen=True)
class ExampleSettings:
    """The rules by which a record becomes an example; the same for every record of a stream."""

    sizes: Sizes
    text_model: TextModel | None
    seed: int
    languages: tuple[str, ...]
    random_crop: bool
    knowledge: Knowledge | None = None


@dataclass(frozen=True)
class Example:
    """A good record in its epoch."""

    settings: ExampleSettings
    record: Record
    epoch: int
    index: int  # the record's number in its source
    # False where the row only fills a batch up: in a bad record's place, or past the end of a pass
    valid: bool = True

    @property
    def seeds(self) -> tuple[int, int, int]:
        """The numbers from which everything random about the example is drawn."""
        return self.settings.seed, self.epoch, self.index

    @functools.cached_property
    def bits(self) -> int:
        """64 random bits: 0 to 11 choose the language, 12 to 23 the wording, 24 to 63 the crop."""
        return random_bits(*self.seeds)

    @property
    def crop_bits(self) -> int | None:
        """The random bits that place the crop; None for the centre crop."""
        return self.bits >> 24 if self.settings.random_crop else None

    @property
    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """The picture, cropped to a square and resized."""
        return to_square(self.record["image"], self.settings.sizes.image_size, self.crop_bits)

    @functools.cached_property
    def caption(self) -> Mapping[str, str]:
        """One of the record's captions, {text, language}."""
        return choose_caption(self.record["captions"], self.settings.languages, self.bits)

    @functools.cached_property
    def objects(self) -> list[dict[str, Any]]:
        """The salient objects inside the crop; none without knowledge."""
        knowledge = self.settings.knowledge
        if knowledge is None:
            return []
        height, width = self.record["image"].shape[:2]
        return knowledge.salient(self.record, largest_square(height, width, self.crop_bits))

    @functools.cached_property
    def prompt(self) -> TrainingPrompt:
        """The text that the model reads: the caption, which knowledge may replace or complete."""
        knowledge, languages = self.settings.knowledge, self.settings.languages
        if knowledge is None:
            return TrainingPrompt(self.caption["text"], self.caption["language"])
        prompt = knowledge.prompt(self.record, self.caption, languages, *self.seeds)
        return knowledge.completed(prompt, self.objects, *self.seeds)

    @functools.cached_property
    def encoded(self) -> tuple[Int32[np.ndarray, " m"], bool, Bool[np.ndarray, " m"]]:
        """The prompt's ids, whether pieces were cut off to fit, and which ids belong to key words
        (none without knowledge).
        """
        text_model, knowledge = self.settings.text_model, self.settings.knowledge
        length = self.settings.sizes.text_length
        assert text_model is not None, "only an example with a text model has ids"
        if knowledge is None:
            ids, truncated = text_model.encode(self.prompt.text, self.prompt.language, length)
            return ids, truncated, np.zeros(length, np.bool_)
        return knowledge.encode(text_model, self.prompt, length, *self.seeds)

    @property
    def region(self) -> Bool[np.ndarray, "y x"]:
        """The codes that a salient object touches."""
        knowledge, grid = self.settings.knowledge, self.settings.sizes.grid
        assert knowledge is not None and grid is not None, "a region needs knowledge and a grid"
        return knowledge.region(self.objects, grid, *self.seeds)


def choose_caption(
    captions: Sequence[Mapping[str, str]], languages: Sequence[str], bits: int
) -> Mapping[str, str]:
    """One of the captions in these languages: first a language is chosen, uniformly among those
    that the captions have, then one of its wordings.
    """
    by_language: dict[str, list[Mapping[str, str]]] = {}
    for caption in captions:
        if caption["language"] in languages:
            by_language.setdefault(caption["language"], []).append(caption)
    present = sorted(by_language)
    wordings = by_language[present[(bits & 0xFFF) % len(present)]]
    return wordings[(bits >> 12 & 0xFFF) % len(wordings)]
