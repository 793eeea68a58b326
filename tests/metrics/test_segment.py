"""The tokens of a caption."""

import pytest

from vilg.metrics.segment import DEFAULT_UNIT, SEGMENTERS, UNITS, segmenter, without_punctuation
from vilg.types import UserError


def tokens(text, language, unit):
    return segmenter(language, unit)[0](text)


@pytest.mark.parametrize(
    "text, language, unit, wanted",
    [
        ("一个 女孩 走", "zh", "word", "一个/女孩/走"),
        ("  一个　女孩 \n走 ", "zh", "word", "一个/女孩/走"),
        ("一个女孩走在街道上", "zh", "word", "一个/女孩/走/在/街道/上"),
        ("街道", "zh", "word", "街道"),
        ("一个 女孩 走", "zh", "char", "一/个/女/孩/走"),
        ("3只T恤，LED。", "zh", "char", "3/只/T/恤/，/L/E/D/。"),
        ("A man's dog.", "en", "word", "a/man/'s/dog"),
        ("A man's dog.", "en", "char", "a/m/a/n/'/s/d/o/g"),
        ("", "zh", "word", ""),
        ("", "zh", "char", ""),
    ],
)
def test_tokens(text, language, unit, wanted):
    assert tokens(text, language, unit) == [t for t in wanted.split("/") if t]


def test_characters_do_not_depend_on_the_segmentation():
    assert tokens("一个 女孩 走 在 街道 上", "zh", "char") == tokens(
        "一个女孩走在街道上", "zh", "char"
    )


def test_punctuation_is_dropped_at_the_ends_of_tokens_only():
    assert without_punctuation(["一", "。", "“红", "3.5", "街。", "T-恤", "...", "+"]) == [
        "一",
        "红",
        "3.5",
        "街",
        "T-恤",
        "+",
    ]


def test_every_language_has_every_unit():
    assert set(SEGMENTERS) == set(DEFAULT_UNIT) and all(
        set(units) == set(UNITS) for units in SEGMENTERS.values()
    )


@pytest.mark.parametrize("language", SEGMENTERS)
@pytest.mark.parametrize("unit", UNITS)
def test_every_rule_keeps_the_text_and_says_in_words_what_it_does(language, unit):
    cut, rule = SEGMENTERS[language][unit]
    assert isinstance(rule, str) and len(rule.split()) > 5
    text = {"zh": "一只白色的小狗", "en": "a white dog"}[language]
    assert "".join(cut(text)) == text.replace(" ", "")
    assert all(len(token) == 1 for token in cut(text)) == (unit == "char")
    assert cut(" ") == []


def test_an_unknown_language_or_unit_is_refused():
    with pytest.raises(UserError, match="language='fr'.*'zh', 'en'"):
        segmenter("fr", "word")
    with pytest.raises(UserError, match="unit='wrod': did you mean 'word'"):
        segmenter("zh", "wrod")
