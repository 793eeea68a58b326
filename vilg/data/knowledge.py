"""Knowledge of a training sample beside its caption (ERNIE-ViLG 2.0, PAPERS 1.6 and PAPERS 1.7):
key words, objects, machine captions.

Each kind of knowledge has its own share of the samples, and a share of 0 turns it off. Kinds that
belong together compare the same random number with their shares, so that equal shares select the
same samples. The generator uses the marks as weights of attention and of the loss. Evaluation and
sampling never see any of this."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

from vilg.config import require
from vilg.data.records import BadRecord, Record, captions, detect_language, random_bits
from vilg.data.tagging import key_class, spans, words_of
from vilg.data.text import TextModel
from vilg.types import UserError

# the last seed of each random number of a sample
TEXT, OBJECTS, REPLACED, WHICH = 1, 2, 3, 4
SAMPLE_SHARE = "must be a share of samples, from 0 to 1"
BOX_SHARE = "must be a share of the box or picture, from 0 to 1"
STOPS = " .。,，;；!！"
SEPARATOR = {"zh": "，", "en": ", "}
Span = tuple[int, int, str]


@dataclass(frozen=True)
class Knowledge:
    """Shares of samples, and the rule by which a box is a salient object. The defaults are the
    paper's where it gives them; PAPERS 1.6 and 1.7 say which of them it does not give.
    """

    tags: float = 0.5  # a special token of its class stands before each key word
    # the array "key" marks the pieces of key words; draws the same number as `tags`
    attention: float = 0.5
    regions: float = 0.5  # the array "region" marks the codes of salient objects
    # names of salient objects that the caption lacks are appended; draws the same number as
    # `regions`
    completion: float = 0.5
    # a machine caption replaces the prompt, where the record has one
    replacement: float = 0.1
    tags_are_key: bool = False  # special tokens count as pieces of their key words
    # a salient object has at least this score of the detector (1 for a box without score)
    score: float = 0.3
    smallest: float = 0.01  # its part in the crop covers at least this share of the crop
    largest: float = 0.8  # its part in the crop covers at most this share of the crop
    visible: float = 0.5  # its part in the crop is at least this share of its box
    objects: int = 5  # at most so many are salient, best score first, then the largest

    def __post_init__(self) -> None:
        fields: dict[str, float] = dataclasses.asdict(self)
        for name in ("tags", "attention", "regions", "completion", "replacement"):
            value = fields[name]
            require(0 <= value <= 1, f"data.knowledge.{name}", value, SAMPLE_SHARE)
        for name in ("score", "smallest", "largest", "visible"):
            value = fields[name]
            require(0 <= value <= 1, f"data.knowledge.{name}", value, BOX_SHARE)
        require(
            self.smallest <= self.largest,
            "data.knowledge.smallest",
            self.smallest,
            f"must not be above largest={self.largest}",
        )
        require(self.objects >= 1, "data.knowledge.objects", self.objects, "give at least 1")

    def check_text_model(self, text_model: TextModel | None) -> None:
        """Errors: UserError if `tags` is above 0 and the text model has no special tokens."""
        if self.tags and text_model is not None and not text_model.tags:
            raise UserError(
                f"data.knowledge.tags={self.tags}: the text model {text_model.path} has no special"
                " tokens; train it with tags, or give 0"
            )

    def prompt(
        self, record: Record, caption: Mapping[str, str], languages: Sequence[str], *seeds: int
    ) -> "TrainingPrompt":
        """The caption with its tagged words.

        In the samples selected for replacement, a machine caption takes its place: one of its
        language, if there is one, else one of `languages`."""
        machine = machine_captions(record) if uniform(*seeds, REPLACED) < self.replacement else []
        machine = [c for c in machine if c["language"] in languages]
        machine = [c for c in machine if c["language"] == caption["language"]] or machine
        if machine:
            caption = machine[random_bits(*seeds, WHICH) % len(machine)]
            captions, words = machine_captions(record), record.get("machine_words")
        else:
            captions, words = record["captions"], record.get("words")
        tagged_words = (
            words[next(i for i, c in enumerate(captions) if c == caption)]
            if words and len(words) == len(captions)
            else ()
        )
        return TrainingPrompt(caption["text"], caption["language"], tagged_words)

    def completed(
        self, prompt: "TrainingPrompt", objects: Sequence[Mapping[str, object]], *seeds: int
    ) -> "TrainingPrompt":
        """The prompt with the names of the objects that it lacks, in its language, at its end, such
        as ", bowl"; as it is in the samples that are not selected.
        """
        if uniform(*seeds, OBJECTS) >= self.completion:
            return prompt
        text, language, added = prompt.text, prompt.language, list(prompt.added)
        for item in objects:
            label = name_of(item, language)
            if label and not mentions(text, label, language):
                text = text.rstrip(STOPS) + SEPARATOR[language] + label
                added.append((len(text) - len(label), len(text), "n"))
        return TrainingPrompt(text, language, prompt.words, tuple(added))

    def encode(
        self, text_model: TextModel, prompt: "TrainingPrompt", length: int, *seeds: int
    ) -> tuple[Int32[np.ndarray, " m"], bool, Bool[np.ndarray, " m"]]:
        """The prompt's ids, whether pieces were cut off to fit, and which ids belong to key words.

        Tags and marks of key words are only in the samples that are selected for them."""
        number = uniform(*seeds, TEXT)
        tags, attention = number < self.tags, number < self.attention
        words = prompt.key_words() if tags or attention else []
        ids, truncated, key = text_model.mark(
            prompt.text, prompt.language, length, words, tags, self.tags_are_key
        )
        return ids, truncated, key & attention

    def salient(self, record: Record, crop: tuple[int, int, int]) -> list[dict[str, object]]:
        """The salient objects inside a crop (left, top, side in pixels), best first. Their "xyxy"
        is in shares of the crop.
        """
        height, width = record["image"].shape[:2]
        left, top, side = crop
        found = []
        for box in record.get("boxes") or ():
            x0, y0, x1, y1 = (float(v) for v in box["xyxy"])
            in_crop = (
                (x0 * width - left) / side,
                (y0 * height - top) / side,
                (x1 * width - left) / side,
                (y1 * height - top) / side,
            )
            visible = tuple(min(max(v, 0.0), 1.0) for v in in_crop)
            visible_area = area(visible)
            score = float(box.get("score", 1.0))
            if (
                visible_area > 0
                and score >= self.score
                and self.smallest <= visible_area <= self.largest
                and visible_area >= self.visible * area(in_crop)
            ):
                found.append((-score, -visible_area, {**box, "xyxy": visible}))
        return [box for *_, box in sorted(found, key=lambda item: item[:2])[: self.objects]]

    def region(
        self, objects: Sequence[Mapping[str, Any]], grid: tuple[int, int], *seeds: int
    ) -> Bool[np.ndarray, "y x"]:
        """True at the codes that an object's box touches.

        It is False everywhere in the samples that are not selected."""
        if uniform(*seeds, OBJECTS) >= self.regions:
            return np.zeros(grid, np.bool_)
        return raster([item["xyxy"] for item in objects], grid)


@dataclass(frozen=True)
class TrainingPrompt:
    """The text that a model reads in training, with what is known of its words."""

    text: str
    language: str
    words: Sequence[Mapping[str, str]] = ()  # the record's tagged words of this text, if it has any
    added: tuple[Span, ...] = ()  # the names of objects that were appended

    def key_words(self) -> list[Span]:
        """(first character, one after the last, class) of the key words.

        They come from the record's tagged words where these are words of the text, else from the
        tagger."""
        caption, words = self.text, self.words
        if self.added:
            caption = self.text[: self.added[0][0]].rstrip(STOPS)
            words = [word for word in words if word["text"].strip(STOPS)]  # its last stop is gone
        found = spans(caption, words) if words else None
        if found is None:
            found = spans(caption, words_of(caption, self.language)) or []
        classes = [(start, stop, key_class(tag)) for start, stop, tag in found]
        return [(start, stop, name) for start, stop, name in classes if name] + list(self.added)


def uniform(*seeds: int) -> float:
    """A pseudo-random number in [0, 1) that depends on nothing but the seeds."""
    return random_bits(*seeds) / 2**64


def area(box: Sequence[float]) -> float:
    """The area of an xyxy box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def raster(boxes: Sequence[Sequence[float]], grid: tuple[int, int]) -> Bool[np.ndarray, "y x"]:
    """True at the cells of a grid that a box touches (xyxy in shares of the picture).

    Edges are rounded outward to whole cells, and overlapping boxes do not add up."""
    out = np.zeros(grid, np.bool_)
    rows, columns = grid
    shares = np.round(np.asarray(boxes, np.float64).reshape(-1, 4), 9)
    for x0, y0, x1, y1 in shares:
        # rounded before floor and ceil, because 0.7 * 10 is 7.000000000000001
        top, left = int(np.floor(np.round(y0 * rows, 6))), int(np.floor(np.round(x0 * columns, 6)))
        bottom = int(np.ceil(np.round(y1 * rows, 6)))
        right = int(np.ceil(np.round(x1 * columns, 6)))
        out[top:bottom, left:right] = True
    return out


def name_of(item: Mapping[str, Any], language: str) -> str:
    """An object's name in a language: from `labels` {language: name}, else `label` if that is in
    the language, else "".
    """
    label = (item.get("labels") or {}).get(language) or item.get("label") or ""
    return label.strip() if detect_language(label) == language else ""


def mentions(text: str, label: str, language: str) -> bool:
    """Whether a caption has the label: in Chinese as characters, in English as words, also with the
    s of a plural.
    """
    if language == "zh":
        return label in text
    return re.search(rf"\b{re.escape(label.lower())}(?:s|es)?\b", text.lower()) is not None


def machine_captions(record: Record) -> list[dict[str, str]]:
    """The captions that a model wrote for the record's picture."""
    return (
        captions(record["id"], record["machine_captions"]) if record.get("machine_captions") else []
    )


def check_knowledge(record: Record) -> Record:
    """The record itself. Errors: BadRecord if a field that this module reads beyond the schema does
    not have its form.
    """
    machine_captions(record)
    for box in record.get("boxes") or ():
        score, label = box.get("score", 1.0), box.get("label") or ""
        labels = box.get("labels") or {}
        names = isinstance(labels, Mapping) and all(
            isinstance(name, str) for name in (label, *labels.values())
        )
        if not names or not isinstance(score, Real) or not 0 <= float(score) <= 1:
            raise BadRecord(record["id"], f"box {box!r} is not {{xyxy, label, score in [0, 1]}}")
    for name in ("words", "machine_words"):
        column = record.get(name) or []
        lists = isinstance(column, Sequence) and all(
            isinstance(words, Sequence) for words in column
        )
        items = [word for words in column for word in words] if lists else [None]
        if not all(
            isinstance(w, Mapping)
            and isinstance(w.get("text"), str)
            and isinstance(w.get("tag"), str)
            for w in items
        ):
            raise BadRecord(record["id"], f"{name} is not a list a caption of {{text, tag}}")
    return record
