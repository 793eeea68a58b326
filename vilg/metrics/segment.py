"""Captions as lists of tokens: the unit that a score counts decides it as much as the captions do,
so each rule is a line of a table.

    zh word   text with a space in it is taken as segmented, as it stands; other text goes through
              jieba (exact mode, with its HMM)
    zh char   every character that is not a space, Latin letters and digits one by one too, as
              scripts for Chinese captions do
    en word   Penn Treebank words, lower case, without punctuation (vilg/metrics/ptb.py)
    en char   the characters of those words

Chinese keeps its punctuation and its capitals, since its segmented references come as they are.
Separate from the scores, which know of tokens only."""

import unicodedata
from collections.abc import Callable

from vilg.config import lookup
from vilg.data.tagging import jieba_tagger
from vilg.metrics.ptb import ptb_words

UNITS = ("word", "char")
DEFAULT_UNIT = {"zh": "char", "en": "word"}


def is_segmented(text: str) -> bool:
    """Whether the text has a space within."""
    return len(text.split()) > 1


def chinese_words(text: str) -> list[str]:
    """The words as given, or jieba's."""
    if is_segmented(text):
        return text.split()
    return [word for word in jieba_tagger().tokenizer.cut(text.strip()) if word.strip()]


def chinese_characters(text: str) -> list[str]:
    """Every character but spaces."""
    return list("".join(text.split()))


def english_characters(text: str) -> list[str]:
    """The characters of the words."""
    return list("".join(ptb_words(text)))


SEGMENTERS: dict[str, dict[str, tuple[Callable[[str], list[str]], str]]] = {
    "zh": {
        "word": (
            chinese_words,
            (
                "text with spaces as segmented, other text by jieba; case and punctuation as they"
                " stand"
            ),
        ),
        "char": (
            chinese_characters,
            (
                "spaces dropped, every character a token, Latin letters and digits too; case and"
                " punctuation as they stand"
            ),
        ),
    },
    "en": {
        "word": (
            ptb_words,
            (
                "Penn Treebank words as pycocoevalcap's PTBTokenizer gives them: lower case,"
                " punctuation dropped (no Java)"
            ),
        ),
        "char": (
            english_characters,
            "the characters of Penn Treebank words: lower case, punctuation dropped",
        ),
    },
}


def segmenter(language: str, unit: str) -> tuple[Callable[[str], list[str]], str]:
    """(text -> tokens, the rule in words). Errors: UserError for an unknown language or unit."""
    return lookup(lookup(SEGMENTERS, language, "language"), unit, "unit")


def without_punctuation(tokens: list[str]) -> list[str]:
    """The tokens without Unicode's punctuation at their ends; what was nothing else is left out.
    "3.5" stays whole.
    """
    kept = []
    for token in tokens:
        first, last = 0, len(token)
        while first < last and unicodedata.category(token[first])[0] == "P":
            first += 1
        while last > first and unicodedata.category(token[last - 1])[0] == "P":
            last -= 1
        kept += [token[first:last]] if first < last else []
    return kept
