import json
import re

import numpy as np
import pytest

from tests.data.test_convert import Listed, equal
from vilg.data import annotate as module
from vilg.data.annotate import annotate
from vilg.data.convert import convert
from vilg.data.knowledge import check_knowledge
from vilg.data.records import BadRecord, validate
from vilg.data.sources import parse_source
from vilg.data.tagging import words_of
from vilg.run.cli import main
from vilg.types import UserError

BOX = {"xyxy": [0.0, 0.25, 0.5, 1.0], "label": "bowl", "score": 0.9}


def bare(records):
    return [{name: r[name] for name in ("id", "image", "captions", "source")} for r in records]


def lines(path, *entries):
    path.write_text(
        "".join(
            (e if isinstance(e, str) else json.dumps(e, ensure_ascii=False)) + "\n" for e in entries
        ),
        "utf-8",
    )
    return str(path)


@pytest.mark.parametrize("first", ["folder", "shards"])
@pytest.mark.parametrize("kind", ["folder", "shards", "webdataset"])
def test_round_trip(tmp_path, records, first, kind):
    records = bare(records)
    convert(Listed(records), first, tmp_path / "source")
    boxes = lines(
        tmp_path / "boxes.jsonl",
        {"id": "made/1", "boxes": [BOX, BOX]},
        "",
        {"id": "made/2", "boxes": [BOX["xyxy"]], "labels": ["cup"], "scores": [1]},
        {"id": "made/1", "boxes": [{"xyxy": [0, 0, 1, 1], "label": "table"}], "model": "any"},
    )
    captions = lines(
        tmp_path / "captions.jsonl",
        {"id": "made/1", "captions": ["a bowl", {"text": "碗", "language": "zh"}]},
    )
    source = parse_source(f"{first}:{tmp_path / 'source'}")
    done = annotate(source, tmp_path / "out", [boxes, captions], kind)
    assert done == {"records": 7, "captions_tagged": 23, "records_merged": 2, "bad": {}}
    back = parse_source(f"{kind}:{tmp_path / 'out'}")
    for i, record in enumerate(records):
        expected = {
            **record,
            "words": [words_of(c["text"], c["language"]) for c in record["captions"]],
        }
        if i == 1:
            expected["boxes"] = [BOX, {"xyxy": [0, 0, 1, 1], "label": "table"}]
            expected["machine_captions"] = [
                {"text": "a bowl", "language": "en"},
                {"text": "碗", "language": "zh"},
            ]
            expected["machine_words"] = [words_of("a bowl", "en"), words_of("碗", "zh")]
        if i == 2:
            expected["boxes"] = [{"xyxy": BOX["xyxy"], "label": "cup", "score": 1}]
        assert equal(check_knowledge(validate(back[i])), expected)
    again = annotate(back, tmp_path / "again", [boxes, captions], kind)
    assert again["captions_tagged"] == 0 and all(
        equal(parse_source(f"{kind}:{tmp_path / 'again'}")[i], back[i]) for i in range(7)
    )


def test_annotations_alone_can_be_merged_again(tmp_path, records):
    source = Listed(bare(records))
    boxes = lines(tmp_path / "boxes.jsonl", {"id": "made/1", "boxes": [BOX], "captions": "一只碗"})
    annotate(source, tmp_path / "whole", [boxes])
    annotate(source, tmp_path / "alone.jsonl", [boxes])
    assert [
        json.loads(line)["id"]
        for line in (tmp_path / "alone.jsonl").read_text("utf-8").splitlines()
    ] == [r["id"] for r in records]
    done = annotate(source, tmp_path / "merged", [str(tmp_path / "alone.jsonl")])
    assert done["captions_tagged"] == 0 and done["records_merged"] == 7
    assert (tmp_path / "merged/captions.jsonl").read_bytes() == (
        tmp_path / "whole/captions.jsonl"
    ).read_bytes()
    with pytest.raises(UserError, match="alone.jsonl.*exists already"):
        annotate(source, tmp_path / "alone.jsonl")


def test_words_that_are_there_stay(tmp_path, records):
    annotate(Listed(records), tmp_path / "out")
    back = parse_source(f"folder:{tmp_path / 'out'}")
    assert [back[i]["words"][:2] for i in range(7)] == [r["words"][:2] for r in records]
    assert (
        back[0]["words"][2] == words_of("number 0, a picture", "en")
        and "machine_words" not in back[0]
    )


def test_lines_of_vilg_caption_find_their_pictures(tmp_path, records, monkeypatch):
    convert(Listed(bare(records)), "folder", tmp_path / "source")
    monkeypatch.chdir(tmp_path)
    said = {
        "image": "source/images/000000003.png",
        "captions": [{"text": "a dot", "language": "en"}],
        "scores": [-3.5],
    }
    file = lines(tmp_path / "said.jsonl", said)
    assert main(["data", "annotate", "--source=folder:source", "--out=out", f"--merge={file}"]) == 0
    back = parse_source("folder:out")
    assert (
        back[3]["machine_captions"] == said["captions"]
        and "machine_captions" not in back[2]
        and "boxes" not in back[3]
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"id": "made/1", "boxes": [{"xyxy": [0, 0, 120, 80]}]},
            r"boxes\[0\].xyxy=\[0, 0, 120, 80\] must lie in \[0, 1\]; divide pixels",
        ),
        (
            {"id": "made/1", "boxes": [BOX, {"xyxy": [-0.1, 0, 1, 1]}]},
            r"boxes\[1\].xyxy=\[-0.1, 0, 1, 1\] must lie in \[0, 1\]",
        ),
        (
            '{"id": "made/1", "boxes": [[0, 0, NaN, 1]]}',
            r"boxes\[0\].xyxy=\[0, 0, nan, 1\] must lie in",
        ),
        (
            {"id": "made/1", "boxes": [[0.5, 0, 0.2, 1]]},
            r"boxes\[0\].xyxy=.* is turned round; order it",
        ),
        (
            {"id": "made/1", "boxes": [[0, 0, 1]]},
            r"boxes\[0\].xyxy=\[0, 0, 1\] must be four numbers",
        ),
        ({"id": "made/1", "boxes": {"xyxy": [0, 0, 1, 1]}}, r"boxes=\{.* must be a list of"),
        (
            {"id": "made/1", "boxes": [[0, 0, 1, 1]], "labels": []},
            r"labels=\[\] must be a list of 1, one a box",
        ),
        (
            {"id": "made/1", "boxes": [{"xyxy": [0, 0, 1, 1], "score": 7}]},
            r"boxes=.*score in \[0, 1\].*; correct it",
        ),
        (
            {"id": "made/1", "boxes": [{"xyxy": [0, 0, 1, 1], "label": 3}]},
            r"boxes=.*is not \{xyxy, label",
        ),
        (
            {"id": "other/1", "boxes": [BOX]},
            r"id='other/1' is no record of the source; remove the line, or give the source",
        ),
        (
            {"image": "nowhere.png", "captions": ["x"]},
            r"id='nowhere.png' is no record of the source",
        ),
        ({"boxes": [BOX]}, r"image=None must be text that names a record"),
        ({"id": ["made/1"], "boxes": []}, r"id=\['made/1'\] must be text"),
        (
            {"id": "made/1", "boxs": [BOX]},
            r"id='made/1' has nothing to merge; did you mean boxes\? give boxes",
        ),
        (
            {"id": "made/1", "captions": [""]},
            r"captions=\[''\] caption is empty; give a list of texts",
        ),
        ({"id": "made/1", "captions": [4]}, r"captions=\[4\] caption is int, not text; give"),
        (
            {"id": "made/1", "words": [["cat"]]},
            r"words=\[\['cat'\]\] words is not a list a caption of \{text, tag\}",
        ),
        (
            {"id": "made/1", "words": [[]]},
            r"words=\[\[\]\] has 1 lists of words for 3 captions; give one each",
        ),
        ('{"id": "made/1", ', r"the line is not JSON .*; write an object a line"),
        ("[1]", r"the line is \[1\], not an object"),
        ("\udcff", "the line is not JSON"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "shards", "listed"])
def test_bad_lines_are_sentences_and_nothing_is_lost(
    tmp_path, records, monkeypatch, capsys, kind, line, message
):
    source = Listed(bare(records[:3]))
    if kind != "listed":
        convert(source, kind, tmp_path / "source")
        source = parse_source(f"{kind}:{tmp_path / 'source'}")
    good = json.dumps({"id": "made/0", "boxes": [BOX]})
    bad = line if isinstance(line, str) else json.dumps(line)
    file = tmp_path / "merge.jsonl"
    file.write_bytes((good + "\n" + bad + "\n").encode("utf-8", "surrogateescape"))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for out in ("out", "out.jsonl"):
        with pytest.raises(UserError, match=re.escape(f"{file}:2: ") + message):
            annotate(source, tmp_path / out, [str(file)])
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    if kind == "folder":
        arguments = [
            "data",
            "annotate",
            f"--source=folder:{tmp_path / 'source'}",
            f"--out={tmp_path / 'out'}",
            "--merge",
            str(file),
        ]
        assert main(arguments) == 2 and capsys.readouterr().err.startswith(f"vilg data: {file}:2: ")


def test_bad_records_are_left_out_and_may_be_named(tmp_path, records):
    source = Listed([*bare(records[:2]), BadRecord("made/2", "broken")])
    file = lines(tmp_path / "merge.jsonl", {"id": "made/2", "boxes": [BOX]})
    assert annotate(source, tmp_path / "out", [file])["bad"] == {"made/2": "broken"}
    with pytest.raises(UserError, match="bad_record_limit=0"):
        annotate(source, tmp_path / "other", bad_record_limit=0)
    with pytest.raises(UserError, match="no good record"):
        annotate(Listed([BadRecord("x", "y")]), tmp_path / "other.jsonl")
    with pytest.raises(UserError, match="merge='nowhere.jsonl': there is no such file"):
        annotate(source, tmp_path / "other", ["nowhere.jsonl"])
    with pytest.raises(UserError, match="out='.*out': exists already"):
        annotate(source, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["merge.jsonl", "out"]


def test_long_sources_say_how_far_they_are(tmp_path, records, monkeypatch):
    monkeypatch.setattr(module, "REPORT_SECONDS", -1.0)
    said = []
    annotate(Listed(bare(records)), tmp_path / "out", log=said.append)
    assert len(said) == 7 and said[2].startswith("3 of 7 records annotated in ")


def test_ids_may_be_numbers_and_come_twice(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    source = Listed(
        [{"id": "7", "image": image, "captions": [{"text": "x", "language": "en"}]}] * 2
    )
    done = annotate(
        source, tmp_path / "out", [lines(tmp_path / "m.jsonl", {"id": 7, "boxes": [BOX]})]
    )
    assert done["records_merged"] == 2 and parse_source(f"folder:{tmp_path / 'out'}")[1][
        "boxes"
    ] == [BOX]
