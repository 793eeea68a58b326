"""vilg score captions: from files to JSON, without a run."""

import json

import pytest

from vilg.metrics.captions import NAMES, score_captions
from vilg.run import cli

PREDICTIONS = {
    "a": ("a red ring.", "一个红色圆环"),
    "b": ("The big box", "大盒子"),
    "c": ("a dog", "狗"),
}
REFERENCES = {
    "a": (["a red ring", "one ring"], ["一个 红色 圆环"]),
    "b": (["a big blue box"], ["一个大盒子"]),
    "c": (["the dog"], ["一只狗", "大狗"]),
}


@pytest.fixture(autouse=True)
def no_java(monkeypatch, tmp_path):
    """METEOR takes longer to start than all of this."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def files(tmp_path):
    """Predictions as `vilg caption` writes them, references as a folder has them."""
    lines = {"predictions": [], "references": []}
    for name in reversed(PREDICTIONS):
        en, zh = PREDICTIONS[name]
        captions = [{"text": en, "language": "en"}, {"text": zh, "language": "zh"}]
        lines["predictions"].append(
            {"image": f"some/where/{name}.png", "captions": captions, "scores": [-1.0, -2.0]}
        )
    for name, (en, zh) in REFERENCES.items():
        lines["references"].append(
            {"image": f"{name}.png", "id": f"number {name}", "captions": [*zh, *en]}
        )
    for name, rows in lines.items():
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        )
    return tmp_path


def score(files, *options):
    return cli.main(
        [
            "score",
            "captions",
            f"--predictions={files / 'predictions.jsonl'}",
            f"--references={files / 'references.jsonl'}",
            *options,
        ]
    )


@pytest.mark.parametrize("language, unit", [("en", "word"), ("zh", "char"), ("zh", "word")])
def test_files_are_scored_as_lists_are(files, capsys, language, unit):
    assert (
        score(
            files,
            f"--language={language}",
            f"--unit={unit}",
            f"--out={files / 'new' / 'o.json'}",
            f"--items={files / 'i.jsonl'}",
        )
        == 0
    )
    found = json.loads((files / "new" / "o.json").read_text())
    k = ("en", "zh").index(language)
    wanted = score_captions(
        [p[k] for p in PREDICTIONS.values()], [r[k] for r in REFERENCES.values()], language, unit
    )
    assert found["metrics"] == wanted.corpus and list(found["metrics"]) == list(NAMES)
    assert found["metrics"]["BLEU-1"] > 0.3 and found["metrics"]["METEOR"] is None
    protocol = found["protocol"]
    assert protocol["null"] == wanted.reasons and "java" in protocol["null"]["METEOR"]
    assert (protocol["language"], protocol["unit"], protocol["n"], protocol["joined_by"]) == (
        language,
        unit,
        3,
        "file name",
    )
    counts = [len(r[k]) for r in REFERENCES.values()]
    assert protocol["references_per_item"] == {"min": 1, "mean": sum(counts) / 3, "max": 2}
    assert protocol["references_in_other_languages"] == 8 - sum(counts)
    assert (
        "pycocoevalcap" in protocol["versions"]
        and len(protocol["inputs"]["references"]["sha256"]) == 64
    )
    assert (
        "CIDEr-D" in protocol["formulas"]["CIDEr"] and "undefined" in protocol["formulas"]["CIDErR"]
    )
    assert ("taken_as_segmented" in protocol) == (unit == "word" and language == "zh")
    if "taken_as_segmented" in protocol:
        assert protocol["taken_as_segmented"] == {"predictions": 0, "references": 1, "of": [3, 4]}
    low, high = found["ci95"]["BLEU-1"]
    assert low <= found["metrics"]["BLEU-1"] <= high
    items = [json.loads(line) for line in (files / "i.jsonl").read_text().splitlines()]
    assert [i["id"] for i in items] == ["number a", "number b", "number c"]
    assert [i["scores"]["CIDEr"] for i in items] == wanted.items["CIDEr"]
    assert (
        items[0]["prediction"]
        == {"en": "a red ring", "zh": "一 个 红 色 圆 环" if unit == "char" else "一个 红色 圆环"}[
            language
        ]
    )
    printed = capsys.readouterr().out
    assert "BLEU-4" in printed and "METEOR is a Java program" in printed


def test_the_unit_is_the_languages_where_it_is_not_given(files):
    for language, unit in {"zh": "char", "en": "word"}.items():
        assert score(files, f"--language={language}", f"--out={files / 'o.json'}") == 0
        assert json.loads((files / "o.json").read_text())["protocol"]["unit"] == unit


def test_punctuation_can_be_dropped(files):
    (files / "predictions.jsonl").write_text(
        '{"id": 1, "caption": "狗。"}\n{"id": 2, "caption": "猫"}\n'
    )
    (files / "references.jsonl").write_text(
        '{"id": 2, "captions": ["猫"]}\n{"id": 1, "captions": ["狗"]}\n'
    )
    found = []
    for option in ("keep", "drop"):
        assert (
            score(files, "--language=zh", f"--punctuation={option}", f"--out={files / 'o.json'}")
            == 0
        )
        found.append(json.loads((files / "o.json").read_text()))
    assert [f["metrics"]["BLEU-1"] for f in found] == pytest.approx([2 / 3, 1])
    assert [f["protocol"]["punctuation"] for f in found] == ["keep", "drop"] and "dropped" in found[
        1
    ]["protocol"]["tokenizer"]


@pytest.mark.parametrize(
    "options, said",
    [
        (["--language=fr"], "language='fr': known names are 'zh', 'en'"),
        (["--language=zh,en"], "language='zh,en': "),
        (["--language=zh", "--unit=wrod"], "unit='wrod': did you mean 'word'?"),
        (["--language=zh", "--punctuation=no"], "punctuation='no': give keep or drop"),
        (["--language=zh", "--items={}/o.json"], "is --out too; give another file"),
        (["--language=zh", "--out={}/references.jsonl"], "is a file to be read; give another one"),
        (["--language=zh", "--out={}"], "is a directory; give a .json file"),
        (["--language=zh", "--predictions={}/x.jsonl"], "x.jsonl': cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence_and_costs_nothing(files, capsys, options, said):
    before = (files / "references.jsonl").read_bytes()
    assert score(files, f"--out={files / 'o.json'}", *(o.format(files) for o in options)) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("vilg score: ") and error.count("\n") == 1
    assert (files / "references.jsonl").read_bytes() == before and not (files / "o.json").exists()


def test_other_ids_are_counted(files, capsys):
    lines = (files / "references.jsonl").read_text().splitlines()
    (files / "references.jsonl").write_text("\n".join(lines[1:]))
    assert score(files, "--language=zh", f"--out={files / 'o.json'}") == 2
    assert (
        "1 of 3 predictions have no references, joined by file name (first: 'a.png')"
        in capsys.readouterr().err
    )


def test_help_says_what_to_write(capsys):
    for argv, words in {
        ("score", "--help"): ["captions", "images", "--references=FILE"],
        ("score", "captions", "--help"): ["--unit", "jieba", "Java", "--items FILE.jsonl"],
    }.items():
        with pytest.raises(SystemExit) as stopped:
            cli.main(list(argv))
        printed = capsys.readouterr().out
        assert stopped.value.code == 0 and all(word in printed for word in words)
    for argv in (
        ["score"],
        ["score", "caption"],
        ["score", "captions", "--langage=zh"],
        ["score", "captions"],
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(argv)
        error = capsys.readouterr().err
        assert (
            stopped.value.code == 2
            and error.count("\n") == 1
            and "--help` lists the options" in error
        )
