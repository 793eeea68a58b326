"""The part of speech of every word of a caption: jieba for Chinese, HanTa for English; both ship
their models, nothing is downloaded.

A word is {"text", "tag"} and the words of a caption are in its order, as the column `words` of a
record has them. Tags are jieba's first letters; those of CLASSES are key words (PAPERS 1.6), which
`vilg.data.knowledge` marks. Which samples are marked is decided there."""

import functools
import logging
import re
import warnings
from collections.abc import Sequence
from typing import Any

from vilg.data.records import HAN

CLASSES = {
    "a": "adjective",
    "n": "noun",
    "v": "verb",
    "m": "numeral",
    "q": "measure word",
    "r": "pronoun",
}
FIRST = {
    "b": "a",
    "z": "a",
    "j": "n",
    "s": "n",
    "t": "n",
    **{c: c for c in CLASSES},
}  # jieba's finer classes by their first letter
WHOLE = {
    "zg": "n",
    "eng": "n",
    "ADJ": "a",
    "NOUN": "n",
    "PROPN": "n",
    "VERB": "v",
    "NUM": "m",
    "PRON": "r",
}  # and Universal tags
# jieba's dictionary has "zg" for single characters of every class; those that are no nouns (by
# frequency), and nouns it calls verbs.
ZG = {
    c: t
    for t, cs in (
        ("d", "很较今仍反甚稍够"),
        ("r", "此每您"),
        ("c", "虽且"),
        ("p", "往"),
        ("v", "行穿掉奔踩挡"),
        ("y", "啊呼"),
    )
    for c in cs
}
NOUNS = frozenset("花树")
COLOUR = re.compile(
    "[深浅淡暗亮鲜]?(?:[红橙橘黄绿青蓝紫粉黑白灰棕褐金银米肉彩杏茶栗]|咖啡|玫瑰|天空|翠|银灰|粉红|蓝绿)+色"
)
ENGLISH_WORD = re.compile(
    r"\d+(?:[.,]\d+)*|n['’]t\b|['’](?:s|m|d|re|ve|ll)\b|[^\W\d_]+?(?=n['’]t\b)|[^\W\d_]+(?:-[^\W\d_]+)*|\S",
    re.I,
)
MEASURES = frozenset(
    "pair piece slice bunch set row herd flock group couple dozen pile stack".split()
)
# CLAWS 5, the tags of HanTa's English model; "" stands for the tags not listed. Auxiliaries and
# articles are function words.
CLAWS = {
    "AJ": "a",
    "NN": "n",
    "NP": "n",
    "VV": "v",
    "CRD": "m",
    "ORD": "m",
    "PNP": "r",
    "PNI": "r",
    "PNQ": "r",
    "PNX": "r",
    "DPS": "r",
    "DT0": "r",
    "DTQ": "r",
    "AV": "d",
    "PR": "p",
    "CJ": "c",
    "PU": "x",
    "": "u",
}


def key_class(tag: str) -> str | None:
    """The class of CLASSES that a tag (jieba's, a Universal one, or a class itself) belongs to;
    None for a function word's.
    """
    return WHOLE.get(tag) or (None if tag[:1].isupper() else FIRST.get(tag[:1]))


@functools.lru_cache(maxsize=2**14)
def tagged(text: str, language: str) -> tuple[tuple[str, str], ...]:
    """(word, tag) for every word and punctuation mark of a caption, in order; white space is left
    out.
    """
    return tuple(chinese(text) if language == "zh" else english(text))


def words_of(text: str, language: str) -> list[dict[str, str]]:
    """The words of a caption as a record's column has them."""
    return [{"text": word, "tag": tag} for word, tag in tagged(text, language)]


def spans(text: str, words: Sequence[Any]) -> list[tuple[int, int, str]] | None:
    """(first character, one after the last, tag) of each word of a column; None where the words are
    not this caption's, in order.
    """
    found, place = [], 0
    for word in words:
        start = text.find(word["text"], place)
        if start < 0 or not word["text"]:
            return None
        place = start + len(word["text"])
        found.append((start, place, word["tag"]))
    return found


def chinese(text: str) -> list[tuple[str, str]]:
    """jieba's words, with four corrections towards captions.

    A colour is an adjective (jieba: noun; the paper's figure: `[a]灰色`), a measure word that
    follows no numeral or pronoun is a noun (碗), the class "zg" is resolved, and a Latin word
    gets its English tag."""
    words: list[tuple[str, str]] = []
    for pair in jieba_tagger().cut(text):
        word, flag = pair.word, pair.flag
        if not word.strip():
            continue
        tag = flag[:1]
        if COLOUR.fullmatch(word):
            tag = "a"
        elif flag == "q" and (not words or words[-1][1] not in ("m", "r")) or word in NOUNS:
            tag = "n"
        elif flag == "zg":
            tag = ZG.get(word, "n")
        elif flag == "eng":
            tag = english(word)[0][1]
        words.append((word, FIRST.get(tag, tag)))
    return words


def english(text: str) -> list[tuple[str, str]]:
    """HanTa's words; a noun that measures ("pair of") is a measure word."""
    forms = ENGLISH_WORD.findall(text)
    found = hanta_tagger().tag_sent([form.replace("’", "'") for form in forms]) if forms else []
    words = [(form, claws(tag)) for form, (_, _, tag) in zip(forms, found, strict=True)]
    for i, (word, tag) in enumerate(words):
        if (
            tag == "n"
            and word.lower().removesuffix("s") in MEASURES
            and words[i + 1 : i + 2]
            and words[i + 1][0].lower() == "of"
        ):
            words[i] = (word, "q")
        elif HAN.search(word):
            words[i] = (word, "n")
    return words


def claws(tag: str) -> str:
    """The letter of a CLAWS 5 tag."""
    return next(letter for start, letter in CLAWS.items() if tag.startswith(start))


@functools.cache
def jieba_tagger() -> Any:
    """jieba's tagger on a dictionary of its own: jieba's default one logs to stderr and reads a
    cache that any user may leave in /tmp.
    """
    for category in (
        DeprecationWarning,
        SyntaxWarning,
        UserWarning,
    ):  # of its pkg_resources and its escape sequences
        warnings.filterwarnings(
            "ignore", category=category, module=r"(.*[/.])?(jieba|pkg_resources)\b"
        )
    import jieba
    import jieba.posseg

    jieba.setLogLevel(logging.WARNING)
    words = jieba.Tokenizer()
    words.FREQ, words.total = words.gen_pfdict(words.get_dict_file())
    words.initialized = True
    return jieba.posseg.POSTokenizer(words)


@functools.cache
def hanta_tagger() -> Any:
    """HanTa's English tagger."""
    from HanTa import HanoverTagger

    return HanoverTagger.HanoverTagger("morphmodel_en.pgz")
