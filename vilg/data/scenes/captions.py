"""Captions of scenes in Chinese and English, their parser, and questions with answers.

A caption is right if it parses back to the scene's objects, attributes and relation, in the wanted
language. The sentences and the parser's patterns are made from one table, so that they always
agree."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import permutations
from typing import Any

from vilg.config import lookup, require
from vilg.data.scenes.scene import COLOURS, INVERSE, SHAPES, SIZES, Object, Scene, relation_between

LANGUAGES = ("zh", "en")
_ZH_COLOURS = ("红色", "橙色", "黄色", "绿色", "青色", "蓝色", "紫色", "粉色")
_ZH_SHAPES = ("圆形", "正方形", "三角形", "菱形", "十字形", "圆环")
_PLURALS = ("circles", "squares", "triangles", "diamonds", "crosses", "rings")

# language -> kind of word -> the scene's value -> (word in the caption, part of speech). Tags are
# jieba's: a adjective, n noun, v verb, m number, q measure word, r pronoun, f direction,
# p preposition, c conjunction, d adverb, u particle, x punctuation.
WORDS: dict[str, dict[str, dict[str | int, tuple[str, str]]]] = {
    "zh": {
        "size": {"small": ("小", "a"), "medium": ("中", "a"), "large": ("大", "a")},
        "colour": {key: (word, "n") for key, word in zip(COLOURS, _ZH_COLOURS, strict=True)},
        "shape": {key: (word, "n") for key, word in zip(SHAPES, _ZH_SHAPES, strict=True)},
        "shapes": {key: (word, "n") for key, word in zip(SHAPES, _ZH_SHAPES, strict=True)},
        "count": {1: ("一", "m"), 2: ("两", "m"), 3: ("三", "m")},
        "relation": {
            "left": ("左边", "f"),
            "right": ("右边", "f"),
            "above": ("上面", "f"),
            "below": ("下面", "f"),
        },
    },
    "en": {
        "size": {key: (key, "a") for key in SIZES},
        "colour": {key: (key, "a") for key in COLOURS},
        "shape": {key: (key, "n") for key in SHAPES},
        "shapes": {key: (word, "n") for key, word in zip(SHAPES, _PLURALS, strict=True)},
        "count": {1: ("one", "m"), 2: ("two", "m"), 3: ("three", "m")},
        "relation": {
            "left": ("left of", "f"),
            "right": ("right of", "f"),
            "above": ("above", "f"),
            "below": ("below", "f"),
        },
    },
}
# Phrases of an object and of a group: "{..}" is a word of the table above, the rest is "text/tag".
THING = {"zh": "一/m 个/q {size} {colour} {shape}", "en": "a/m {size} {colour} {shape}"}
THINGS = {"zh": "{count} 个/q {size} {colour} {shapes}", "en": "{count} {size} {colour} {shapes}"}
# language -> kind of scene -> wordings. A, B and C are objects 0, 1 and 2, G is a group, and
# {relation} is where A is, as seen from B.
WORDINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "zh": {
        "one": ("A", "画/n 中/f 有/v A", "这/r 是/v A", "图/n 里/f 有/v A"),
        "group": ("G", "画/n 中/f 有/v G", "这/r 是/v G", "图/n 里/f 有/v G"),
        "two": ("A 在/p B {relation}", "画/n 中/f A 在/p B {relation}", "A 位于/v B {relation}"),
        "three": (
            "A 在/p B {relation} ，/x 还有/v C",
            "画/n 中/f A 在/p B {relation} ，/x 还有/v C",
            "A 位于/v B {relation} ，/x 另有/v C",
        ),
    },
    "en": {
        "one": ("A", "there/r is/v A", "this/r is/v A", "a/m picture/n of/u A"),
        "group": ("G", "there/r are/v G", "these/r are/v G", "a/m picture/n of/u G"),
        "two": ("A {relation} B", "there/r is/v A {relation} B", "A is/v {relation} B"),
        "three": (
            "A {relation} B and/c C",
            "there/r is/v A {relation} B and/c C",
            "A is/v {relation} B ,/x also/d C",
        ),
    },
}


@dataclass(frozen=True)
class Caption:
    """A sentence with its words as (text, tag)."""

    text: str
    language: str
    words: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Parsed:
    """The content of a caption."""

    language: str
    objects: tuple[tuple[str, str, str], ...]  # (size, colour, shape) of A, B, C, or of a group
    relation: str | None
    count: int  # of objects; a group has one entry in `objects`


def kind_of(scene: Scene) -> str:
    """The key of WORDINGS whose sentences describe the scene."""
    return "group" if scene.group else ("one", "two", "three")[len(scene.objects) - 1]


def describe(scene: Scene, language: str, wording: int = 0) -> Caption:
    """The caption of a scene in the wording of a number, modulo the number of wordings."""
    wordings = lookup(WORDINGS, language, "language")[kind_of(scene)]
    words: list[tuple[str, str]] = []
    for token in wordings[wording % len(wordings)].split():
        words += _words_for(token, scene, language)
    return Caption(_join([text for text, _ in words], language), language, tuple(words))


def _words_for(token: str, scene: Scene, language: str) -> list[tuple[str, str]]:
    """The words, (text, tag), of one token of a wording."""
    table = WORDS[language]
    if token in ("A", "B", "C", "G"):
        o = scene.objects["ABC".index(token) if token != "G" else 0]
        values: dict[str, str | int] = {
            "size": o.size,
            "colour": o.colour,
            "shape": o.shape,
            "shapes": o.shape,
            "count": len(scene.objects),
        }
        phrase = (THINGS if token == "G" else THING)[language].split()
        return [table[w[1:-1]][values[w[1:-1]]] if w[0] == "{" else _tagged(w) for w in phrase]
    if token == "{relation}":
        assert scene.relation is not None, "only scenes with a relation have such a wording"
        text, tag = table["relation"][scene.relation]
        return [(text.split()[0], tag), *((word, "u") for word in text.split()[1:])]
    return [_tagged(token)]


def _tagged(token: str) -> tuple[str, str]:
    """ "text/tag" as (text, tag)."""
    text, tag = token.rsplit("/", 1)
    return text, tag


def _join(words: Sequence[str], language: str) -> str:
    """The sentence of these words."""
    return "".join(words) if language == "zh" else " ".join(words).replace(" ,", ",")


@lru_cache
def _patterns() -> list[tuple[str, str, str, re.Pattern[str]]]:
    """(language, kind, wording, regular expression) of every sentence that `describe` can make."""
    found = []
    for language, kinds in WORDINGS.items():
        gap = r"\s*" if language == "zh" else r"\s+"
        for kind, wordings in kinds.items():
            for wording in wordings:
                parts = [_pattern(token, language, gap) for token in wording.split()]
                text = gap.join(parts).replace(r"\s+,", r"\s*,")
                found.append(
                    (language, kind, wording, re.compile(rf"\s*{text}\s*[.。]?\s*", re.IGNORECASE))
                )
    return found


def _pattern(token: str, language: str, gap: str) -> str:
    """The regular expression of one token of a wording, with named groups for its words."""
    if token in ("A", "B", "C", "G"):
        phrase = (THINGS if token == "G" else THING)[language].split()
        return gap.join(
            (
                _slot(w[1:-1], f"{w[1:-1]}{token}", language)
                if w[0] == "{"
                else re.escape(_tagged(w)[0])
            )
            for w in phrase
        )
    if token == "{relation}":
        return _slot("relation", "relation", language)
    return re.escape(_tagged(token)[0])


def _slot(kind: str, name: str, language: str) -> str:
    """A named group that matches any word of a kind."""
    return f"(?P<{name}>{'|'.join(re.escape(text) for text, _ in WORDS[language][kind].values())})"


@lru_cache
def _meaning(language: str, kind: str) -> dict[str, Any]:
    """Word in a caption -> the scene's value."""
    return {text: key for key, (text, _) in WORDS[language][kind].items()}


def parse(text: str) -> Parsed | None:
    """The content of a caption; None for a text that is no sentence of `describe`. Case, spaces and
    a full stop at the end do not matter.
    """
    for language, kind, _, pattern in _patterns():
        match = pattern.fullmatch(text)
        if match is None:
            continue
        groups = {
            name: " ".join(value.lower().split()) for name, value in match.groupdict().items()
        }
        meaning = partial(_meaning, language)
        letters = {"one": "A", "two": "AB", "three": "ABC", "group": "G"}[kind]
        shape = "shapes" if kind == "group" else "shape"
        objects = tuple(
            (
                meaning("size")[groups[f"size{x}"]],
                meaning("colour")[groups[f"colour{x}"]],
                meaning(shape)[groups[f"{shape}{x}"]],
            )
            for x in letters
        )
        relation = meaning("relation")[groups["relation"]] if "relation" in groups else None
        count = meaning("count")[groups["countG"]] if kind == "group" else len(objects)
        if kind == "group" and count < 2:
            return None
        return Parsed(language, objects, relation, count)
    return None


def caption_is_right(text: str, scene: Scene, language: str) -> bool:
    """Whether a caption in this language names exactly the scene's objects, and a relation that
    holds between the two objects that it relates.
    """
    parsed = parse(text)
    if parsed is None or parsed.language != language or parsed.count != len(scene.objects):
        return False
    if scene.group:
        return parsed.relation is None and parsed.objects == (scene.objects[0].attributes,)
    if Counter(parsed.objects) != Counter(o.attributes for o in scene.objects):
        return False
    if scene.relation is None:
        return True
    return any(
        tuple(o.attributes for o in order) == parsed.objects
        and parsed.relation == _relation(scene, order[0], order[1])
        for order in permutations(scene.objects)
    )


def _relation(scene: Scene, a: Object, b: Object) -> str | None:
    """Where a is, as seen from b.

    The scene states it for its first two objects; for others it follows from their positions."""
    assert scene.relation is not None
    if (a, b) == scene.objects[:2]:
        return scene.relation
    if (b, a) == scene.objects[:2]:
        return INVERSE[scene.relation]
    return relation_between(a, b)


def _word(language: str, kind: str, key: str | int) -> str:
    """The word of a scene's value."""
    return WORDS[language][kind][key][0]


def questions(scene: Scene, language: str) -> list[dict[str, object]]:
    """Questions about the scene that have one answer: {question, answers, language}, where
    `answers` are the ways to write the answer. They ask for the number of objects, a colour, a
    shape, or a place.
    """
    require(language in LANGUAGES, "language", language, f"must be one of {', '.join(LANGUAGES)}")
    word = partial(_word, language)
    zh = language == "zh"
    count, number = word("count", len(scene.objects)), str(len(scene.objects))
    asked: list[tuple[str, tuple[str, ...]]] = []
    asked.append(
        ("图中有几个物体？", (f"{count}个", count, number))
        if zh
        else ("how many objects are there?", (count, number))
    )
    shapes = Counter(o.shape for o in scene.objects)
    colours = Counter(o.colour for o in scene.objects)
    for o in scene.objects[:1] if scene.group else scene.objects:
        shape, colour = word("shape", o.shape), word("colour", o.colour)
        if scene.group or shapes[o.shape] == 1:
            asked.append(
                (f"{shape}是什么颜色？" if zh else f"what colour is the {shape}?", (colour,))
            )
        if scene.group or colours[o.colour] == 1:
            asked.append(
                (
                    f"{colour}的物体是什么形状？" if zh else f"what shape is the {colour} object?",
                    (shape,),
                )
            )
    if scene.relation is not None:
        a, b = (
            word("colour", o.colour) + ("" if zh else " ") + word("shape", o.shape)
            for o in scene.objects[:2]
        )
        where = word("relation", scene.relation).removesuffix(" of")
        asked.append(
            (f"{a}在{b}的哪边？" if zh else f"where is the {a}, seen from the {b}?", (where,))
        )
    return [
        {"question": question, "answers": list(answers), "language": language}
        for question, answers in asked
    ]
