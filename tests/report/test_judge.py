"""The text of the page of `vilg judge`: self-contained, escaped, in the given order. Its behaviour
is tested in a browser (tests/run)."""

import json
import re

import pytest

from vilg.report.judge import LABELS, SERVED, STATIC, WORDS, judge_page
from vilg.report.protocols import PROTOCOLS

EVIL = '</script><img src=x onerror="alert(1)"> & \'quoted\' data-votes="kept"'


def item(**changes) -> dict:
    return {
        "id": "0" * 32,
        "pictures": ["items/a.png"],
        "texts": {"question": EVIL, "answer": "红色"},
        "language": "zh",
    } | changes


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_page_holds_what_it_is_given_and_asks_nobody_else(name):
    page = judge_page("study", PROTOCOLS[name], [item()], pixelated=False)
    assert (
        "<img src=x" not in page
        and page.count("</script>") == 2
        and page.count(STATIC) == 1
        and SERVED not in page
    )
    assert "http://" not in page and "https://" not in page and "@import" not in page
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["data:,"]
    (data,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', page)
    found = json.loads(data)
    assert found["items"] == [item()] and list(found["items"][0]["texts"]) == ["question", "answer"]
    assert [q["name"] for q in found["questions"]] == [q.name for q in PROTOCOLS[name].questions]
    assert (
        'class="pixelated"' in page,
        'class="pixelated"' in judge_page("s", PROTOCOLS[name], [], pixelated=True),
    ) == (False, True)


def test_every_word_the_page_uses_is_in_both_languages():
    page = judge_page("study", PROTOCOLS["pairs"], [], pixelated=False)
    code = page[page.index('"use strict"') :]
    used = set(re.findall(r'data-word="(\w+)"', page)) | set(re.findall(r'say\("(\w+)"', code)) - {
        "title"
    }
    used |= {"picture", "left", "right"}
    assert used - {"title"} == set(WORDS)
    for words in (*WORDS.values(), *LABELS.values()):
        assert set(words) == {"zh", "en"} and all(words.values())
        assert len({tuple(re.findall(r"\{\w+\}", text)) for text in words.values()}) == 1
