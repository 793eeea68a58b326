"""Suites in their published formats, with prompts made for the tests; the real files are read only
where they lie beside the checkout."""

import json
from collections import Counter
from pathlib import Path

import pytest

from vilg.data.suite_table import SUITES, VILG_300
from vilg.data.suites import digest, of_categories, read_suite, suite_table
from vilg.types import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = {
    "vilg_300/ViLG-300.csv": (
        "\ufeffPrompt,文本,类别,来源\r\n"
        '"A teal\r\nlamp, lit.","一盏亮着的\n青灯，真的。",颜色,DrawBench\r\n'
        '"Nine ""ants"".",九只蚂蚁。,计数,DrawBench\r\n'
        "A lamp.,,颜色,DrawBench\r\n"
        "A town at dawn.,黎明的小镇。,不同时间/场景,ERNIE-VILG\r\n"
    ),
    "drawbench/DrawBench.csv": (
        'Prompts,Category\r\nA teal lamp.,Colors\r\n"A sign, ""hi"".",Text\r\n'
    ),
    "parti_prompts/PartiPrompts.tsv": (
        'Prompt\tCategory\tChallenge\tNote\na 3" nail\tArtifacts\tQuantity\tlone "quote\n"hm" said'
        " a fox\tAnimals\tBasic\t\n"
    ),
    "geneval/evaluation_metadata.jsonl": (
        '{"tag": "counting", "include": [{"class": "ant", "count": 2}], "exclude": [{"class":'
        ' "ant", "count": 3}], "prompt": "two ants"}\n{"tag": "colors", "include": [{"class":'
        ' "lamp", "count": 1, "color": "teal"}], "prompt": "a teal lamp"}\n'
    ),
    **{
        f"t2i_compbench/{name}_val.txt": f"a {name} ant\r\na {name} bee"
        for name in (
            "color",
            "shape",
            "texture",
            "spatial",
            "3d_spatial",
            "non_spatial",
            "numeracy",
            "complex",
        )
    },
    "coco_30k/coco_30k.csv": (
        "image_id,text,zh,translation\n7,A fox sits.,狐狸坐着。,Somebody 2020\n9,A bee.,,\n"
    ),
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """$VILG_DATA with every file."""
    for name, text in FILES.items():
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(text.encode())
    monkeypatch.setenv("VILG_DATA", str(tmp_path))
    return tmp_path


def test_vilg_300_has_a_prompt_in_each_language_joined_by_its_row(data):
    found = read_suite("vilg_300")
    assert [(p.language, p.text) for p in found] == [
        ("zh", "一盏亮着的 青灯，真的。"),
        ("en", "A teal lamp, lit."),
        ("zh", "九只蚂蚁。"),
        ("en", 'Nine "ants".'),
        ("en", "A lamp."),
        ("zh", "黎明的小镇。"),
        ("en", "A town at dawn."),
    ]
    assert [p.extra["id"].rsplit("/")[-1] for p in found] == list("1122344")
    assert found[0].extra == {
        "suite": "vilg_300",
        "id": "ViLG-300/1",
        "category": "颜色",
        "category_en": "Colors",
        "source": "DrawBench",
    }
    assert found[-1].extra["category_en"] == "Scene" and found[-1].extra["source"] == "ERNIE-VILG"
    assert {p.language for p in read_suite("vilg_300", languages=("zh",))} == {"zh"}


def test_the_english_suites_keep_their_categories_and_columns(data):
    drawbench, parti, geneval = (
        read_suite(name) for name in ("drawbench", "parti_prompts", "geneval")
    )
    assert [(p.text, p.extra["category"]) for p in drawbench] == [
        ("A teal lamp.", "Colors"),
        ('A sign, "hi".', "Text"),
    ]
    assert [(p.text, p.extra["category"], p.extra["Challenge"]) for p in parti] == [
        ('a 3" nail', "Artifacts", "Quantity"),
        ('"hm" said a fox', "Animals", "Basic"),
    ]
    assert [(p.text, p.extra["category"]) for p in geneval] == [
        ("two ants", "counting"),
        ("a teal lamp", "colors"),
    ]
    assert geneval[0].extra["exclude"] == [{"class": "ant", "count": 3}]
    compbench = read_suite("t2i_compbench")
    assert Counter(p.extra["category"] for p in compbench) == dict.fromkeys(
        (
            "color",
            "shape",
            "texture",
            "spatial",
            "3d_spatial",
            "non_spatial",
            "numeracy",
            "complex",
        ),
        2,
    )
    assert compbench[1].text == "a color bee" and len({p.extra["id"] for p in compbench}) == 16
    with pytest.raises(UserError, match="language='zh': drawbench has no prompt in it"):
        read_suite("drawbench", languages=("zh",))


def test_a_path_of_a_suites_file_is_that_suite_unless_a_column_is_named(data):
    file = data / "vilg_300" / "ViLG-300.csv"
    assert read_suite(file) == read_suite("vilg_300")
    assert [p.text for p in read_suite(file, "文本")] == [
        "一盏亮着的 青灯，真的。",
        "九只蚂蚁。",
        "黎明的小镇。",
    ]
    assert len(read_suite(data / "t2i_compbench" / "color_val.txt")) == 2


def test_a_file_of_ones_own_joins_languages_by_its_ids(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("\ufeffid,提示,类别\r\na,狐狸,x\r\na,a fox,x\r\nb,a bee,\r\n")
    found = read_suite(own)
    assert [(p.extra["id"], p.language, p.extra.get("category")) for p in found] == [
        ("a", "zh", "x"),
        ("a", "en", "x"),
        ("b", "en", None),
    ]
    assert [p.text for p in of_categories(found, ["X"])] == ["狐狸", "a fox"]
    assert [p.text for p in read_suite(own, languages=("en",))] == ["a fox", "a bee"]
    own.write_text("id,prompt\na,a fox\na,a bee\n")
    with pytest.raises(UserError, match="id 'a' comes twice in en"):
        read_suite(own)
    bare = tmp_path / "bare.txt"
    bare.write_text("a fox\n\na bee\n")
    assert [p.extra for p in read_suite(bare)] == [
        {"suite": "bare.txt", "id": "bare/1"},
        {"suite": "bare.txt", "id": "bare/3"},
    ]


def test_the_translator_of_coco_is_named(data):
    zh, *en = read_suite("coco_30k")
    assert zh.extra["translation"] == "Somebody 2020" and zh.extra["image_id"] == "7"
    assert [p.text for p in en] == ["A fox sits.", "A bee."] and not any(
        "translation" in p.extra for p in en
    )
    file = data / "coco_30k" / "coco_30k.csv"
    file.write_text("image_id,caption,zh\n7,A fox sits.,狐狸坐着。\n")
    with pytest.raises(
        UserError,
        match="row 1 does not say who translated its Chinese; give the column translation",
    ):
        read_suite("coco_30k")
    assert [p.text for p in read_suite("coco_30k", languages=("en",))] == ["A fox sits."]
    assert read_suite("coco_30k", translation="me")[0].extra["translation"] == "me"
    (data / "coco_30k" / "coco_30k.jsonl").write_text(
        json.dumps({"image": "7.jpg", "caption": "A fox.", "zh": "狐狸", "translation": "her"})
    )
    assert [(p.text, p.extra.get("translation")) for p in read_suite("coco_30k")] == [
        ("狐狸", "her"),
        ("A fox.", None),
    ]


def test_synthetic_has_every_category_in_both_languages():
    found = read_suite("synthetic")
    assert Counter((p.extra["category"], p.language) for p in found) == {
        (c, g): 16
        for c in ("single_object", "colour", "shape", "size", "count", "relation", "binding")
        for g in ("zh", "en")
    }
    assert read_suite("synthetic", languages=("zh",)) == [p for p in found if p.language == "zh"]
    assert all(
        len({p.text for p in found if p.extra["category"] == c}) > 20 for c in ("colour", "binding")
    )


def test_categories_are_chosen_in_either_language(data):
    found = read_suite("vilg_300")
    assert (
        of_categories(found, ["colors"])
        == of_categories(found, ["颜色"])
        == [p for p in found if p.extra["category"] == "颜色"]
    )
    assert len(of_categories(found, ["Colors", "计数"])) == 5 and of_categories(found, []) == found
    with pytest.raises(UserError, match="category='Colour': did you mean 'Colors'"):
        of_categories(found, ["Colour"])


def test_what_is_not_here_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("VILG_DATA", raising=False)
    with pytest.raises(
        UserError,
        match=(
            r"\$VILG_DATA is not set; .*vilg_300/ViLG-300.csv: get it from"
            r" github.com/PaddlePaddle/ERNIE.*Apache-2.0"
        ),
    ):
        read_suite("vilg_300")
    monkeypatch.setenv("VILG_DATA", str(tmp_path))
    for name, suite in SUITES.items():
        if suite.files:
            with pytest.raises(
                UserError, match=f"prompts='{name}': there is no .*{suite.files[0][0]}; get it from"
            ) as said:
                read_suite(name)
            assert (
                suite.where in str(said.value)
                and suite.license in str(said.value)
                and "\n" not in str(said.value)
            )
    with pytest.raises(UserError, match="prompts='vilg_30': is no suite .did you mean 'vilg_300'"):
        read_suite("vilg_30")
    with pytest.raises(UserError, match="column='x'"):
        read_suite("synthetic", "x")


def test_a_file_without_the_suites_column_is_refused(data):
    (data / "drawbench" / "DrawBench.csv").write_text("Question,Category\nx,y\n")
    with pytest.raises(
        UserError, match="there is no column prompts or prompt, which drawbench has; it has"
    ):
        read_suite("drawbench")


def test_the_table_and_the_digest_tell_what_is_here(data):
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in suite_table().splitlines()}
    assert rows["vilg_300"][:3] == ["yes", "zh,en", "300"] and set(rows) == {"suite", *SUITES}
    before = digest("t2i_compbench")
    assert (
        digest(data / "vilg_300" / "ViLG-300.csv") == digest("vilg_300") != before
        and digest("synthetic") == ""
    )
    (data / "t2i_compbench" / "complex_val.txt").write_text("another\n")
    assert digest("t2i_compbench") != before
    (data / "t2i_compbench" / "complex_val.txt").unlink()
    assert {line.split("\t")[0]: line.split("\t")[1] for line in suite_table().splitlines()}[
        "t2i_compbench"
    ] == "no"


@pytest.mark.skipif(
    not (SHARED / "ViLG-300.csv").is_file(), reason="needs ../shared/data/ViLG-300.csv"
)
def test_the_real_vilg_300_has_the_published_counts():
    found = read_suite(SHARED / "ViLG-300.csv")
    assert Counter(p.language for p in found) == {"zh": 300, "en": 300}
    assert Counter(p.extra["source"] for p in found) == {"DrawBench": 300, "ERNIE-VILG": 300}
    assert {p.extra["category"]: p.extra["category_en"] for p in found} == VILG_300
    counts = Counter(p.extra["category_en"] for p in found if p.language == "zh")
    assert (counts["Colors"], counts["Reddit"], counts["Gary Marcus et al."], counts["Scene"]) == (
        22,
        36,
        9,
        14,
    )
