import subprocess
import sys

import pytest

from vilg.data.scenes.source import Synthetic
from vilg.data.tagging import CLASSES, key_class, spans, tagged, words_of

FIGURE = "灰色 的 猫 和 棕色 的 狗 ， 碗"


def marked(text: str, language: str) -> str:
    return " ".join(
        f"[{key_class(tag)}]{word}" if key_class(tag) else word
        for word, tag in tagged(text, language)
    )


@pytest.mark.parametrize("text", [FIGURE, FIGURE.replace(" ", "")])
def test_the_paper_s_figure(text):
    assert marked(text, "zh") == "[a]灰色 的 [n]猫 和 [a]棕色 的 [n]狗 ， [n]碗"


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("zh", "[m]三朵 [n]花 在 [n]树下"),
        ("zh", "[r]这 [v]是 [r]他 的 [n]车"),
        ("zh", "[m]一只 [n]鸟"),
        ("zh", "[m]三碗 [n]米饭"),
        ("zh", "[n]角色"),
        ("en", "a [a]gray [n]cat and a [a]brown [n]dog , a [n]bowl"),
        ("en", "a [q]pair of [n]shoes"),
        ("en", "There is a [n]T-shirt"),
        ("en", "[m]Two [a]young [n]men do n't [v]play"),
        ("en", "a [n]woman [v]wearing [r]her [a]red [n]dress"),
    ],
)
def test_classes_of_both_languages(language, expected):
    text = "".join(expected.split()) if language == "zh" else expected
    for name in CLASSES:
        text = text.replace(f"[{name}]", "")
    assert marked(text.replace("do n't", "don't"), language) == expected


def test_words_cover_their_caption_in_order():
    for text, language in (
        (FIGURE, "zh"),
        ("a 猫's T-shirt, 3.5 m; don’t! 🐶", "en"),
        ("他 said “hi”…", "zh"),
        (" ", "en"),
        ("", "zh"),
    ):
        words = words_of(text, language)
        found = spans(text, words)
        assert found is not None and "".join(word["text"] for word in words) == "".join(
            text.split()
        )
        assert all(
            text[start:stop] == word["text"]
            for (start, stop, _), word in zip(found, words, strict=True)
        )
    assert (
        spans("a cat", [{"text": "dog", "tag": "n"}]) is None
        and spans("a b", [{"text": "b", "tag": "n"}, {"text": "a", "tag": "n"}]) is None
    )


def test_tags_of_other_taggers():
    assert [key_class(t) for t in ("vn", "nr", "b", "mq", "uj", "x", "eng", "f")] == [
        "v",
        "n",
        "a",
        "m",
        None,
        None,
        "n",
        None,
    ]
    assert [key_class(t) for t in ("NOUN", "ADV", "AUX", "PRON", "ADJ", "")] == [
        "n",
        None,
        None,
        "r",
        "a",
        None,
    ]


def test_the_taggers_agree_with_the_synthetic_source_on_its_attributes():
    source, same, all_ = Synthetic(annotations=True, n=60), 0, 0
    for i in range(60):
        record = source[i]
        for caption, words in zip(record["captions"], record["words"], strict=True):
            mine = dict(tagged(caption["text"], caption["language"]))
            for word in words:
                if (
                    word["tag"] in ("a", "n")
                    and word["text"] in mine
                    and not word["text"].endswith("色")
                ):  # the source follows jieba there
                    all_ += 1
                    same += key_class(mine[word["text"]]) == word["tag"]
    assert all_ > 200 and same / all_ > 0.85


def test_loading_says_nothing_and_leaves_no_cache(tmp_path):
    code = "from vilg.data.tagging import tagged; tagged('一只猫', 'zh'); tagged('a cat', 'en')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout == done.stderr == "" and not list(tmp_path.iterdir())
