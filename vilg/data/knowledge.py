"""Knowledge of a training sample beside its caption (ERNIE-ViLG 2.0, PAPERS 1.6 and PAPERS 1.7):
key words, objects, machine captions.

Each kind has its own share of the samples, and a share of 0 is off; what belongs together draws the
same number, so that equal shares select the same samples. What is done with the marks (weights of
attention and of the loss) is the generator's; evaluation and sampling never see any of this."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Bool

from vilg.config import require
from vilg.data.records import BadRecord, Record, captions, detect_language, draw
from vilg.data.tagging import key_class, spans, tagged
from vilg.data.text import TextModel
from vilg.types import UserError

TEXT, OBJECTS, REPLACED, WHICH = 1, 2, 3, 4  # the draws of a sample
BOX_SHARE = "must be a share of the box or picture, from 0 to 1"
STOPS = " .。,，;；!！"
SEPARATOR = {"zh": "，", "en": ", "}
Span = tuple[int, int, str]


@dataclass(frozen=True)
class Knowledge:
    """Shares of samples, and which boxes are salient objects. The defaults are the paper's where it
    says; the rest is unknown there.
    """

    tags: float = 0.5  # a special token of its class before each key word
    attention: float = 0.5  # "key": where the key words' pieces are; selects as `tags` does
    regions: float = 0.5  # "region": where salient objects are
    # names of salient objects that the caption lacks are appended; selects as `regions` does
    completion: float = 0.5
    replacement: float = 0.1  # a machine caption instead of the prompt, where the record has one
    tags_are_key: bool = False  # special tokens count as pieces of their key words
    # salient: the detector's score is at least this (a box without score counts as certain)
    score: float = 0.3
    smallest: float = 0.01  # salient: the part in the crop covers at least this share of the crop
    largest: float = 0.8  # ... and at most this
    visible: float = 0.5  # ... and is at least this share of the box
    objects: int = 5  # salient: at most so many, best score first, then the largest

    def __post_init__(self) -> None:
        for name in ("tags", "attention", "regions", "completion", "replacement"):
            require(
                0 <= getattr(self, name) <= 1,
                f"data.knowledge.{name}",
                getattr(self, name),
                "must be a share of samples, from 0 to 1",
            )
        for name in ("score", "smallest", "largest", "visible"):
            require(
                0 <= getattr(self, name) <= 1,
                f"data.knowledge.{name}",
                getattr(self, name),
                BOX_SHARE,
            )
        require(
            self.smallest <= self.largest,
            "data.knowledge.smallest",
            self.smallest,
            f"must not be above largest={self.largest}",
        )
        require(self.objects >= 1, "data.knowledge.objects", self.objects, "give at least 1")

    def check_text_model(self, text_model: TextModel | None) -> None:
        """UserError if tags are asked for and the text model has no special tokens."""
        if self.tags and text_model is not None and not text_model.tags:
            raise UserError(
                f"data.knowledge.tags={self.tags}: the text model {text_model.path} has no special"
                " tokens; train it with tags, or give 0"
            )

    def prompt(
        self, record: Record, chosen: Mapping[str, str], languages: Sequence[str], *numbers: int
    ) -> "Prompt":
        """The chosen caption, or a machine caption (of its language, if there is one) in its place,
        with its key words.
        """
        found = machine_captions(record) if uniform(*numbers, REPLACED) < self.replacement else []
        found = [c for c in found if c["language"] in languages]
        found = [c for c in found if c["language"] == chosen["language"]] or found
        mine, words = record["captions"], record.get("words")
        if found:
            chosen = found[draw(*numbers, WHICH) % len(found)]
            mine, words = machine_captions(record), record.get("machine_words")
        column = (
            words[next(i for i, c in enumerate(mine) if c == chosen)]
            if words and len(words) == len(mine)
            else ()
        )
        return Prompt(chosen["text"], chosen["language"], column)

    def completed(
        self, prompt: "Prompt", objects: Sequence[Mapping[str, Any]], *numbers: int
    ) -> "Prompt":
        """The prompt with the names of objects that it lacks, in its language, at its end: ",
        bowl".
        """
        if uniform(*numbers, OBJECTS) >= self.completion:
            return prompt
        text, language, added = prompt.text, prompt.language, list(prompt.added)
        for item in objects:
            label = name_of(item, language)
            if label and not mentions(text, label, language):
                text = text.rstrip(STOPS) + SEPARATOR[language] + label
                added.append((len(text) - len(label), len(text), "n"))
        return Prompt(text, language, prompt.column, tuple(added))

    def encode(
        self, text_model: TextModel, prompt: "Prompt", length: int, *numbers: int
    ) -> tuple[np.ndarray, bool, Bool[np.ndarray, " m"]]:
        """(ids, truncated, where key words are) of a row; tags and key pieces only in the samples
        that are selected for them.
        """
        number = uniform(*numbers, TEXT)
        tags, attention = number < self.tags, number < self.attention
        words = prompt.key_words() if tags or attention else []
        ids, truncated, key = text_model.mark(
            prompt.text, prompt.language, length, words, tags, self.tags_are_key
        )
        return ids, truncated, key & attention

    def salient(self, record: Record, crop: tuple[int, int, int]) -> list[dict[str, Any]]:
        """The salient objects inside a crop (left, top, side in pixels), best first, their "xyxy"
        in shares of the crop.
        """
        height, width = record["image"].shape[:2]
        left, top, side = crop
        found = []
        for box in record.get("boxes") or ():
            x0, y0, x1, y1 = (float(v) for v in box["xyxy"])
            whole = (
                (x0 * width - left) / side,
                (y0 * height - top) / side,
                (x1 * width - left) / side,
                (y1 * height - top) / side,
            )
            inside = tuple(min(max(v, 0.0), 1.0) for v in whole)
            area, of = extent(inside), extent(whole)
            score = float(box.get("score", 1.0))
            if (
                area > 0
                and score >= self.score
                and self.smallest <= area <= self.largest
                and area >= self.visible * of
            ):
                found.append((-score, -area, {**box, "xyxy": inside}))
        return [box for *_, box in sorted(found, key=lambda item: item[:2])[: self.objects]]

    def region(
        self, objects: Sequence[Mapping[str, Any]], grid: tuple[int, int], *numbers: int
    ) -> Bool[np.ndarray, "y x"]:
        """True at the code positions that an object's box touches; all False in a sample that is
        not selected.
        """
        if uniform(*numbers, OBJECTS) >= self.regions:
            return np.zeros(grid, np.bool_)
        return raster([item["xyxy"] for item in objects], grid)


@dataclass(frozen=True)
class Prompt:
    """What the model is told: a text, the words that the record's column has for it (or none), and
    the spans that were appended.
    """

    text: str
    language: str
    column: Sequence[Mapping[str, str]] = ()
    added: tuple[Span, ...] = ()

    def key_words(self) -> list[Span]:
        """(first character, one after the last, class) of the key words, from the column where it
        fits, else from the tagger.
        """
        caption = self.text[: self.added[0][0]].rstrip(STOPS) if self.added else self.text
        words = (
            [word for word in self.column if word["text"].strip(STOPS)]
            if self.added
            else self.column
        )  # the last stop was cut off
        found = spans(caption, words) if words else None
        if found is None:
            found = (
                spans(
                    caption,
                    [{"text": word, "tag": tag} for word, tag in tagged(caption, self.language)],
                )
                or []
            )
        marked = [(start, stop, key_class(tag)) for start, stop, tag in found]
        return [(start, stop, name) for start, stop, name in marked if name] + list(self.added)


def uniform(*numbers: int) -> float:
    """A number in [0, 1) that depends on nothing but the numbers."""
    return draw(*numbers) / 2**64


def extent(box: Sequence[float]) -> float:
    """The area of an xyxy box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def raster(boxes: Sequence[Sequence[float]], grid: tuple[int, int]) -> Bool[np.ndarray, "y x"]:
    """True at the cells of a grid that a box (xyxy in shares of the picture) touches: floor and
    ceil outward; overlaps do not add.
    """
    out = np.zeros(grid, np.bool_)
    rows, columns = grid
    for x0, y0, x1, y1 in np.round(
        np.asarray(boxes, np.float64).reshape(-1, 4), 9
    ):  # 0.7 * 10 is 7.000000000000001
        top, left = int(np.floor(np.round(y0 * rows, 6))), int(np.floor(np.round(x0 * columns, 6)))
        out[
            top : int(np.ceil(np.round(y1 * rows, 6))),
            left : int(np.ceil(np.round(x1 * columns, 6))),
        ] = True
    return out


def name_of(item: Mapping[str, Any], language: str) -> str:
    """An object's name in a language: of `labels` {language: name}, else `label` if it is in that
    language, else "".
    """
    label = (item.get("labels") or {}).get(language) or item.get("label") or ""
    return label.strip() if detect_language(label) == language else ""


def mentions(text: str, label: str, language: str) -> bool:
    """Whether a caption has the label: as it is in Chinese; as words, also with a plural's s, in
    English.
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
    """The record itself, or BadRecord if what this module reads of it (beyond the schema) is not of
    its form.
    """
    machine_captions(record)
    for box in record.get("boxes") or ():
        score, label, labels = (
            box.get("score", 1.0),
            box.get("label") or "",
            box.get("labels") or {},
        )
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
