"""Parts of speech of a caption's words, by jieba for Chinese and HanTa for English. Both packages
contain their models; nothing is downloaded.

The words of a caption are {"text", "tag"} in the order of the caption, as in the field `words` of a
record. A tag is the first letter of jieba's tag. Words with tags of CLASSES are key words (PAPERS
1.6); `vilg.data.knowledge` decides in which samples they are marked."""

import functools
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
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
# first letter of a tag of jieba -> class
CLASS_OF_LETTER = {"b": "a", "z": "a", "j": "n", "s": "n", "t": "n", **{c: c for c in CLASSES}}
# whole tag of jieba, or Universal tag -> class
CLASS_OF_TAG = {
    "zg": "n",
    "eng": "n",
    "ADJ": "a",
    "NOUN": "n",
    "PROPN": "n",
    "VERB": "v",
    "NUM": "m",
    "PRON": "r",
}
# jieba's dictionary tags single characters of every class as "zg". Of the frequent ones, these are
# no nouns.
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
NOUNS = frozenset("花树")  # nouns that jieba tags as verbs
COLOUR = re.compile(
    "[深浅淡暗亮鲜]?(?:[红橙橘黄绿青蓝紫粉黑白灰棕褐金银米肉彩杏茶栗]|咖啡|玫瑰|天空|翠|银灰|粉红|蓝绿)+色"
)
ENGLISH_WORD = re.compile(
    r"\d+(?:[.,]\d+)*|n['’]t\b|['’](?:s|m|d|re|ve|ll)\b|[^\W\d_]+?(?=n['’]t\b)"
    r"|[^\W\d_]+(?:-[^\W\d_]+)*|\S",
    re.I,
)
MEASURES = frozenset(
    "pair piece slice bunch set row herd flock group couple dozen pile stack".split()
)
# start of a CLAWS 5 tag, as HanTa's English model gives it -> letter; "" is the start of all other
# tags. Auxiliaries and articles are function words.
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
    """The class of a tag, or None for a function word.

    The tag may be jieba's, a Universal tag, or a class itself."""
    return CLASS_OF_TAG.get(tag) or (None if tag[:1].isupper() else CLASS_OF_LETTER.get(tag[:1]))


@functools.lru_cache(maxsize=2**14)
def tagged(text: str, language: str) -> tuple[tuple[str, str], ...]:
    """(word, tag) of every word and punctuation mark of a caption, in order.

    White space is left out."""
    return tuple(chinese(text) if language == "zh" else english(text))


def words_of(text: str, language: str) -> list[dict[str, str]]:
    """The words of a caption as a record holds them."""
    return [{"text": word, "tag": tag} for word, tag in tagged(text, language)]


def spans(text: str, words: Sequence[Mapping[str, str]]) -> list[tuple[int, int, str]] | None:
    """(first character, one after the last, tag) of each word; None where the words do not occur in
    the text in this order.
    """
    found, stop = [], 0
    for word in words:
        start = text.find(word["text"], stop)
        if start < 0 or not word["text"]:
            return None
        stop = start + len(word["text"])
        found.append((start, stop, word["tag"]))
    return found


def chinese(text: str) -> list[tuple[str, str]]:
    """jieba's words with four corrections, which suit captions.

    A colour is an adjective (jieba tags it as a noun, the paper's figure as `[a]灰色`). A measure
    word that follows no numeral or pronoun is a noun (碗), as are two nouns that jieba tags as
    verbs. The tag "zg" is resolved. A Latin word gets its English tag."""
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
        words.append((word, CLASS_OF_LETTER.get(tag, tag)))
    return words


def english(text: str) -> list[tuple[str, str]]:
    """HanTa's words. A noun of MEASURES before "of" is a measure word ("pair of")."""
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
    """jieba's tagger with an own instance of its dictionary: the default instance logs to stderr
    and reads a cache in /tmp, which any user may have written.
    """
    # jieba warns of its use of pkg_resources and of its escape sequences
    for category in (DeprecationWarning, SyntaxWarning, UserWarning):
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
