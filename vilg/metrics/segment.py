"""Captions as lists of tokens, by a table of language and unit.

The unit that a score counts decides the score as much as the captions do.

    zh word   text that contains a space counts as segmented, and its words are kept; other text is
              segmented by jieba (exact mode, with its HMM)
    zh char   every character but spaces is a token, also Latin letters and digits, as scripts for
              Chinese captions do it
    en word   Penn Treebank words, lower case, without punctuation (vilg/metrics/ptb.py)
    en char   the characters of those words

Chinese keeps its punctuation and its capitals, because segmented Chinese references have them."""

import unicodedata
from collections.abc import Callable

from vilg.config import lookup
from vilg.data.tagging import jieba_tagger
from vilg.metrics.ptb import ptb_words

UNITS = ("word", "char")
DEFAULT_UNIT = {"zh": "char", "en": "word"}


def is_segmented(text: str) -> bool:
    """Whether the text has a space between two words."""
    return len(text.split()) > 1


def chinese_words(text: str) -> list[str]:
    """The words between spaces where the text is segmented, else jieba's words."""
    if is_segmented(text):
        return text.split()
    return [word for word in jieba_tagger().tokenizer.cut(text.strip()) if word.strip()]


def chinese_characters(text: str) -> list[str]:
    """Every character but spaces."""
    return list("".join(text.split()))


def english_characters(text: str) -> list[str]:
    """The characters of the Penn Treebank words."""
    return list("".join(ptb_words(text)))


# language -> unit -> (the function, its rule in words); stored results have the words
SEGMENTERS: dict[str, dict[str, tuple[Callable[[str], list[str]], str]]] = {
    "zh": {
        "word": (
            chinese_words,
            "text with spaces as segmented, other text by jieba; case and punctuation as they"
            " stand",
        ),
        "char": (
            chinese_characters,
            "spaces dropped, every character a token, Latin letters and digits too; case and"
            " punctuation as they stand",
        ),
    },
    "en": {
        "word": (
            ptb_words,
            "Penn Treebank words as pycocoevalcap's PTBTokenizer gives them: lower case,"
            " punctuation dropped (no Java)",
        ),
        "char": (
            english_characters,
            "the characters of Penn Treebank words: lower case, punctuation dropped",
        ),
    },
}


def segmenter(language: str, unit: str) -> tuple[Callable[[str], list[str]], str]:
    """The function from a text to its tokens, and its rule in words. Errors: UserError for an
    unknown language or unit.
    """
    return lookup(lookup(SEGMENTERS, language, "language"), unit, "unit")


def without_punctuation(tokens: list[str]) -> list[str]:
    """The tokens without punctuation (Unicode's category P) at their ends.

    A token of nothing but punctuation is left out; "3.5" stays whole."""
    stripped = []
    for token in tokens:
        start, stop = 0, len(token)
        while start < stop and unicodedata.category(token[start])[0] == "P":
            start += 1
        while stop > start and unicodedata.category(token[stop - 1])[0] == "P":
            stop -= 1
        stripped += [token[start:stop]] if start < stop else []
    return stripped
