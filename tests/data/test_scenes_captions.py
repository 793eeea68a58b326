"""Captions say everything about a scene in both languages, and parse back to exactly that."""

import random
from dataclasses import replace

import pytest

from vilg.data.scenes.captions import (
    LANGUAGES,
    WORDINGS,
    Parsed,
    caption_is_right,
    describe,
    kind_of,
    parse,
    questions,
)
from vilg.data.scenes.sampling import SceneConfig, sample_scene
from vilg.data.scenes.scene import Object, Scene
from vilg.types import UserError

RED = Object("circle", "red", "small", 0.2, 0.5)
BLUE = Object("square", "blue", "large", 0.7, 0.5)
TWO = Scene((RED, BLUE), "left")
TAGS = set("anvmqrfpcdux")


def scenes(n, **config):
    rng = random.Random(1)
    return [sample_scene(rng, SceneConfig(**config)) for _ in range(n)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_wording_parses_back(language):
    for scene in scenes(300, groups=0.3):
        for wording in range(len(WORDINGS[language][kind_of(scene)])):
            caption = describe(scene, language, wording)
            kind = (
                (scene.objects[0].attributes,)
                if scene.group
                else tuple(o.attributes for o in scene.objects)
            )
            assert parse(caption.text) == Parsed(language, kind, scene.relation, len(scene.objects))
            assert caption_is_right(caption.text, scene, language)
            assert not caption_is_right(caption.text, scene, "zh" if language == "en" else "en")


def test_at_least_three_wordings_and_all_differ():
    for language, kinds in WORDINGS.items():
        for kind, wordings in kinds.items():
            assert len(set(wordings)) == len(wordings) >= 3, (language, kind)


def test_shuffled_captions_are_wrong():
    drawn = scenes(300, min_objects=2, max_objects=2, groups=0.0)
    right = sum(
        caption_is_right(describe(a, "zh").text, b, "zh")
        for a, b in zip(drawn, drawn[1:], strict=False)
    )
    assert right <= 0.01 * len(drawn)


def test_the_inverse_relation_says_the_same():
    turned = Scene((BLUE, RED), "right")
    for language in LANGUAGES:
        assert caption_is_right(describe(turned, language).text, TWO, language)
        assert not caption_is_right(
            describe(replace(turned, relation="left"), language).text, TWO, language
        )


def test_any_true_relation_of_three_is_right():
    green = Object("ring", "green", "small", 0.2, 0.9)
    three = Scene((RED, BLUE, green), "left")
    assert caption_is_right(describe(Scene((RED, green, BLUE), "above"), "en").text, three, "en")
    assert not caption_is_right(
        describe(Scene((RED, green, BLUE), "below"), "en").text, three, "en"
    )


@pytest.mark.parametrize(
    "text",
    [
        "A Small  red Circle.",
        "there is a small red circle",
        " 一个小红色圆形。",
        "一个 小 红色 圆形",
        "图里有一个小红色圆形",
    ],
)
def test_case_spaces_and_full_stops_do_not_matter(text):
    assert parse(text).objects == (("small", "red", "circle"),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle",
        "a small red",
        "a small red circle left of",
        "one small red circles",
        "a small red circle a small red circle",
        "a smallred circle",
        "a small 红色 circle",
        "小红色",
        "a small red circle left of a large blue square and",
        "the weather",
    ],
)
def test_anything_else_does_not_parse(text):
    assert parse(text) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_make_up_the_text(language):
    for scene in scenes(50):
        caption = describe(scene, language, 1)
        assert "".join(text for text, _ in caption.words) == caption.text.replace(" ", "")
        assert {tag for _, tag in caption.words} <= TAGS
        nouns = [text for text, tag in caption.words if tag == "n"]
        assert len(nouns) >= (1 if scene.group else len(scene.objects))


@pytest.mark.parametrize("language, left, two", [("zh", "左边", "两个"), ("en", "left", "two")])
def test_questions(language, left, two):
    asked = questions(TWO, language)
    assert len(asked) == 6 and all(q["language"] == language for q in asked)
    assert asked[0]["answers"][0] == two and asked[-1]["answers"] == [left]
    same = Scene((RED, replace(BLUE, shape="circle")), "left")
    assert len(questions(same, language)) == 4  # what colour "the circle" is cannot be asked
    assert len(questions(Scene((RED, replace(BLUE, colour="red")), "left"), language)) == 4
    assert questions(Scene((RED,)), language)[0]["answers"][-1] == "1"
    assert questions(Scene((RED,)), language)[0]["answers"][0] in ("一个", "one")


def test_an_unknown_language_is_named():
    with pytest.raises(UserError, match="language='de'"):
        describe(TWO, "de")
