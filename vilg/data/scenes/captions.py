"""Captions of scenes in Chinese and English, questions with answers, and the way back from a
caption to what it says.

Separate because the caption checker needs only this: a caption is right if it parses back to the
scene's objects, attributes and relation, in the asked language. The sentences and the parser's
patterns are made from one table, so neither can drift."""

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

# language -> kind of word -> the scene's word -> (the word said, part of speech). Tags are jieba's:
# a adjective, n noun, v verb, m number, q measure word, r pronoun, f direction, p preposition, c
# conjunction, d adverb, u particle, x punctuation.
WORDS: dict[str, dict[str, dict[Any, tuple[str, str]]]] = {
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
# How an object and a group are called: "{..}" is a word of the table above, the rest is "text/tag".
THING = {"zh": "一/m 个/q {size} {colour} {shape}", "en": "a/m {size} {colour} {shape}"}
THINGS = {"zh": "{count} 个/q {size} {colour} {shapes}", "en": "{count} {size} {colour} {shapes}"}
# language -> kind of scene -> wordings. A, B, C are objects 0, 1, 2; G a group; {relation} where A
# is, seen from B.
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
    """What a caption says. `objects` are (size, colour, shape) in order of A, B, C; a group has
    `count` like its only object.
    """

    language: str
    objects: tuple[tuple[str, str, str], ...]
    relation: str | None
    count: int


def kind_of(scene: Scene) -> str:
    """The row of WORDINGS that describes the scene."""
    return "group" if scene.group else ("one", "two", "three")[len(scene.objects) - 1]


def describe(scene: Scene, language: str, wording: int = 0) -> Caption:
    """The caption of a scene in one of the wordings (taken modulo their number)."""
    wordings = lookup(WORDINGS, language, "language")[kind_of(scene)]
    words: list[tuple[str, str]] = []
    for token in wordings[wording % len(wordings)].split():
        words += _say(token, scene, language)
    return Caption(_join([text for text, _ in words], language), language, tuple(words))


def _say(token: str, scene: Scene, language: str) -> list[tuple[str, str]]:
    table = WORDS[language]
    if token in ("A", "B", "C", "G"):
        o = scene.objects["ABC".index(token) if token != "G" else 0]
        chosen = {
            "size": o.size,
            "colour": o.colour,
            "shape": o.shape,
            "shapes": o.shape,
            "count": len(scene.objects),
        }
        phrase = (THINGS if token == "G" else THING)[language].split()
        return [table[w[1:-1]][chosen[w[1:-1]]] if w[0] == "{" else _tagged(w) for w in phrase]
    if token == "{relation}":
        text, tag = table["relation"][scene.relation]
        return [(text.split()[0], tag), *((word, "u") for word in text.split()[1:])]
    return [_tagged(token)]


def _tagged(token: str) -> tuple[str, str]:
    text, tag = token.rsplit("/", 1)
    return text, tag


def _join(words: Sequence[str], language: str) -> str:
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
    return f"(?P<{name}>{'|'.join(re.escape(text) for text, _ in WORDS[language][kind].values())})"


@lru_cache
def _meaning(language: str, kind: str) -> dict[str, Any]:
    return {text: key for key, (text, _) in WORDS[language][kind].items()}


def parse(text: str) -> Parsed | None:
    """What a caption says, or None where it is none of our sentences. Case, spaces and a full stop
    do not matter.
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
    """Whether a caption names exactly the scene's objects and a relation that holds between the two
    it names, in that language.
    """
    said = parse(text)
    if said is None or said.language != language or said.count != len(scene.objects):
        return False
    if scene.group:
        return (
            said.relation is None
            and len(said.objects) == 1
            and said.objects[0] == scene.objects[0].attributes
        )
    if Counter(said.objects) != Counter(o.attributes for o in scene.objects):
        return False
    if scene.relation is None:
        return True
    return any(
        tuple(o.attributes for o in order) == said.objects
        and said.relation == _relation(scene, order[0], order[1])
        for order in permutations(scene.objects)
    )


def _relation(scene: Scene, a: Object, b: Object) -> str | None:
    """Where a is, seen from b: as the scene states it for its first two objects, as the positions
    have it for the others.
    """
    assert scene.relation is not None
    if (a, b) == scene.objects[:2]:
        return scene.relation
    if (b, a) == scene.objects[:2]:
        return INVERSE[scene.relation]
    return relation_between(a, b)


def _wording(language: str, kind: str, key: Any) -> str:
    return WORDS[language][kind][key][0]


def questions(scene: Scene, language: str) -> list[dict[str, Any]]:
    """Questions about the scene that have one answer: how many, which colour, which shape,
    where.
    """
    require(language in LANGUAGES, "language", language, f"must be one of {', '.join(LANGUAGES)}")
    word = partial(_wording, language)
    zh = language == "zh"
    count, number = word("count", len(scene.objects)), str(len(scene.objects))
    asked: list[tuple[str, tuple[str, ...]]] = []
    asked.append(
        ("图中有几个物体？", (f"{count}个", count, number))
        if zh
        else ("how many objects are there?", (count, number))
    )
    shapes, colours = (
        Counter(o.shape for o in scene.objects),
        Counter(o.colour for o in scene.objects),
    )
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
