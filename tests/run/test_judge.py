"""vilg judge without a browser: studies, votes, the server's answers, reports, and bad input in one
sentence.
"""

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vilg.report.protocols import PROTOCOLS
from vilg.run import cli
from vilg.run.judge.inputs import model_names
from vilg.run.judge.server import JudgeServer
from vilg.run.judge.study import read_study
from vilg.run.judge.votes import Answer, Votes


def samples(place: Path, prompts: list[str], tint: int, **fields) -> Path:
    """A directory as `vilg sample` leaves it."""
    place.mkdir(parents=True)
    lines = []
    for i, prompt in enumerate(prompts):
        Image.fromarray(np.full((8, 8, 3), (tint, i, 90), np.uint8)).save(place / f"{i:05d}.png")
        lines.append(
            {"prompt": prompt, "file": f"{i:05d}.png", "seed": 0, "language": "en"} | fields
        )
    (place / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


PROMPTS = [f"prompt {i}" for i in range(9)]


@pytest.fixture
def three(tmp_path):
    """Three models' directories, joined by commas."""
    return ",".join(
        str(samples(tmp_path / name, PROMPTS, tint))
        for name, tint in (("m_c", 1), ("m_a", 2), ("m_b", 3))
    )


def judge(*options: str) -> int:
    return cli.main(["judge", *options])


def make(out: Path, given: str, *options: str):
    assert judge(f"--samples={given}", f"--out={out}", "--static", *options) == 0
    return read_study(out)


def refused(capsys, words: str, *options: str) -> None:
    capsys.readouterr()
    assert judge(*options) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and said.startswith("vilg judge: "), said


def test_every_pair_of_every_prompt_with_sides_in_balance(three, tmp_path):
    study = make(tmp_path / "s", three)
    assert study.models == ("m_c", "m_a", "m_b") and study.raters == 5
    assert Counter((frozenset(i.models), i.prompt) for i in study.items) == Counter(
        {
            (frozenset(pair), p): 1
            for p in PROMPTS
            for pair in (("m_a", "m_b"), ("m_a", "m_c"), ("m_b", "m_c"))
        }
    )
    for pair in (("m_a", "m_b"), ("m_a", "m_c"), ("m_b", "m_c")):
        assert sum(i.models == pair for i in study.items) in (4, 5)
    assert [i.prompt for i in study.items] != sorted(i.prompt for i in study.items)
    for item in study.items:
        for model, file in zip(item.models, item.pictures, strict=True):
            pixels = np.asarray(Image.open(tmp_path / "s" / "public" / file))
            assert tuple(pixels[0, 0]) == (
                {"m_a": 2, "m_b": 3, "m_c": 1}[model],
                int(item.prompt.split()[1]),
                90,
            )


def test_the_seed_is_the_study(three, tmp_path):
    a, c = make(tmp_path / "a", three), make(tmp_path / "c", three, "--seed=1")
    b = make(tmp_path / "b", ",".join(reversed(three.split(","))), "--seed=0")
    assert b.models == a.models[::-1] and (a.id, a.items) == (b.id, b.items)
    assert (tmp_path / "a" / "public" / "index.html").read_bytes() == (
        tmp_path / "b" / "public" / "index.html"
    ).read_bytes()
    assert [i.prompt for i in a.items] != [i.prompt for i in c.items] and a.id != c.id
    assert not {i.id for i in a.items} & {i.id for i in c.items}


def test_the_same_command_goes_on_and_another_is_refused(three, tmp_path, capsys):
    out = f"--out={tmp_path / 's'}"
    study = make(tmp_path / "s", three)
    assert make(tmp_path / "s", three) == study
    assert make(tmp_path / "s", three, "--raters=7").raters == 7
    refused(capsys, "seed=1: the study in", f"--samples={three}", out, "--static", "--seed=1")
    refused(capsys, "protocol='images': the study in", out, "--static", "--protocol=images")
    refused(
        capsys,
        "differ from those of the study",
        f"--samples={three.rpartition(',')[0]}",
        out,
        "--static",
    )
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "m_a" / "00000.png")
    refused(capsys, "differ from those of the study", f"--samples={three}", out, "--static")


def test_prompts_that_not_all_have(tmp_path, capsys):
    given = f"{samples(tmp_path / 'a', PROMPTS, 1)},{samples(tmp_path / 'b', PROMPTS[2:], 2)}"
    refused(
        capsys,
        "b': lacks 2 of 9 prompts, the first 'prompt 0'",
        f"--samples={given}",
        f"--out={tmp_path / 's'}",
        "--static",
    )
    assert not (tmp_path / "s").exists()
    study = make(tmp_path / "s", given, "--common")
    assert len(study.items) == 7 and study.left_out == 2
    assert make(tmp_path / "s", given) == study


def test_several_pictures_a_prompt_are_joined_in_their_order(tmp_path):
    a, b = (
        samples(tmp_path / "a", ["x", "x", "y"], 1),
        samples(tmp_path / "b", ["y", "x", "x"], 2, seed=5),
    )
    study = make(tmp_path / "s", f"{a},{b}")
    places = set()
    for item in study.items:
        seen = [np.asarray(Image.open(tmp_path / "s" / "public" / f))[0, 0] for f in item.pictures]
        places.add((item.prompt, *(int(i) for _, i, _ in sorted(map(tuple, seen)))))
    assert places == {("x", 0, 1), ("x", 1, 2), ("y", 2, 0)}


def test_names_are_what_tells_paths_apart():
    assert model_names(["runs/a/out", "runs/b/out/"]) == ["a/out", "b/out"]
    assert model_names(["x/run.v1", "y/run.v2"]) == ["run.v1", "run.v2"]
    assert model_names(["x/a.jsonl", "x/b.jsonl"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--samples=A", "--out=S"], "pairs compares models; give two or more"),
        (["--samples=A,A", "--out=S"], "the same path comes twice"),
        (["--samples=A,NOWHERE", "--out=S"], "cannot be read (No such file"),
        (
            ["--samples=A,B", "--out=S", "--protocol=pears"],
            "known protocols are pairs, images, captions, vqa",
        ),
        (["--samples=A,B", "--out=S", "--raters=0"], "raters=0"),
        (["--samples=A,B", "--out=S", "--static", "--port=1"], "nothing is served with --static"),
        (["--samples=A,B", "--out=S", "--port=99999"], "port=99999"),
        (
            ["--samples=A,GONE", "--out=S"],
            "line 1 names the picture '00000.png', which is not there",
        ),
        (["--samples=A,BROKEN", "--out=S"], "is no picture"),
        (["--samples=A,OTHER", "--out=S", "--common"], "have no prompt in common"),
        (["--samples=A/samples.jsonl", "--out=S", "--protocol=captions"], "no text in 'image'"),
        (["--out=S", "--static"], "holds no study; give --samples"),
        (["--samples=A,B", "--out=A"], "holds a public/ without a study.json"),
        (["--samples=A,B", "--out=S", "--report"], "the study has no votes yet"),
        (["--samples=A,B", "--out=S", "--import=NOWHERE"], "import="),
        (["--samples=A,B", "--out=S", "--import=A/samples.jsonl"], "is no file of votes"),
        (["--samples=A,B", "--out=S", "--static", "--report=x"], "ignored explicit argument"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    for name in ("A", "B", "GONE", "BROKEN"):
        samples(Path(name), ["a"], 1)
    samples(Path("OTHER"), ["b"], 1)
    (tmp_path / "A" / "public").mkdir()
    (tmp_path / "GONE" / "00000.png").unlink()
    (tmp_path / "BROKEN" / "00000.png").write_text("no picture")
    if "--report=x" in options:
        with pytest.raises(SystemExit, match="2"):
            judge(*options)
        assert words in capsys.readouterr().err
    else:
        refused(capsys, words, *options)


def kept(place: Path, study, rater: str, votes: list[dict], id: str = "") -> str:
    """A file as the page gives it."""
    path = place / f"{rater}.json"
    path.write_text(json.dumps({"study": id or study.id, "rater": rater, "votes": votes}))
    return f"--import={path}"


def test_votes_of_another_study_are_refused(three, tmp_path, capsys):
    a, b = make(tmp_path / "a", three), make(tmp_path / "b", three, "--seed=1")
    vote = {"item": a.items[0].id, "question": "fidelity", "value": 1, "time": 5.0}
    out = f"--out={tmp_path / 'b'}"
    refused(capsys, "are of another study than this one", out, kept(tmp_path, a, "r", [vote]))
    refused(capsys, "this study has no such item", out, kept(tmp_path, a, "r", [vote], id=b.id))
    good = vote | {"item": b.items[0].id}
    for change, words in (
        ({"value": 2}, "answered by one of -1, 0, 1"),
        ({"value": True}, "value=True"),
        ({"question": "x"}, "question='x'"),
    ):
        refused(capsys, words, out, kept(tmp_path, b, "r", [good, good | change]))
    refused(
        capsys, "a time is not finite", out, kept(tmp_path, b, "r", [good | {"time": float("nan")}])
    )
    refused(capsys, "holds no study", f"--out={tmp_path / 'c'}", kept(tmp_path, b, "r", [good]))
    refused(
        capsys, "the study has no votes yet", out, "--report"
    )  # nothing of a refused file was kept
    assert judge(f"--out={tmp_path / 'a'}", kept(tmp_path, a, "r", [vote])) == 0
    (tmp_path / "b" / "votes.sqlite").write_bytes((tmp_path / "a" / "votes.sqlite").read_bytes())
    refused(capsys, "belongs to study", out, "--report")
    (tmp_path / "b" / "votes.sqlite").write_bytes(
        b"not a database, but as long as one's header is and more" * 9
    )
    refused(capsys, "is not a file of votes", out, "--report")


def test_the_latest_vote_counts_whatever_comes_first(three, tmp_path):
    study = make(tmp_path / "s", three, "--raters=1")
    votes = Votes(tmp_path / "s" / "votes.sqlite", study)
    item = study.items[0].id
    for value, time in ((1, 20.0), (-1, 10.0), (0, 30.0), (1, 25.0)):
        votes.add(" Ann  B ", study.id, [Answer(item, "fidelity", value, time)])
    assert votes.of("Ann B") == {item: {"values": {"fidelity": 0}}} and len(votes.all()) == 1
    with sqlite3.connect(votes.path) as db:
        assert db.execute("SELECT * FROM votes").fetchall() == [
            ("Ann B", item, "fidelity", 0, 30.0)
        ]
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_what_the_server_takes_and_gives(three, tmp_path):
    study = make(tmp_path / "s", three, "--raters=1")
    votes = Votes(tmp_path / "s" / "votes.sqlite", study)
    item = study.items[0]
    good = {"study": study.id, "rater": "r", "item": item.id, "values": {"alignment": 1}}
    json_type = {"Content-Type": "application/json"}
    with JudgeServer("127.0.0.1", 0, tmp_path / "s" / "public", votes) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()

        def ask(method: str, path: str, body: object = None, headers: dict = json_type):
            connection = http.client.HTTPConnection(
                "127.0.0.1", server.server_address[1], timeout=10
            )
            data = (
                None
                if body is None
                else body
                if isinstance(body, bytes)
                else json.dumps(body).encode()
            )
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read()
            connection.close()
            return (
                response.status,
                text
                if response.headers.get_content_type() != "application/json"
                else json.loads(text),
            )

        try:
            assert ask("GET", "/")[1].count(b'data-votes="sent"') == 1
            assert ask("GET", f"/{item.pictures[0]}") == (
                200,
                (tmp_path / "s" / "public" / item.pictures[0]).read_bytes(),
            )
            for path in (
                "/study.json",
                "/../study.json",
                "/items/../../study.json",
                "/items/",
                "/votes.sqlite",
                "/%2e%2e/study.json",
            ):
                assert ask("GET", path)[0] == 404
            for status, changes in (
                (409, {"study": "other"}),
                (404, {"item": "0" * 32}),
                (404, {"item": ["x"]}),
                (422, {"values": {"alignment": 2}}),
                (422, {"values": {"alignment": True}}),
                (422, {"values": {"alignment": "1"}}),
                (422, {"values": {"alignment": 1, "beauty": 1}}),
                (400, {"values": {}}),
                (400, {"values": [1]}),
                (422, {"rater": " "}),
                (422, {"rater": "x" * 65}),
                (422, {"rater": "a\u0000b"}),
            ):
                found, body = ask("POST", "/votes", good | changes)
                assert found == status and body["error"], changes
            assert ask("POST", "/votes", b"{")[0] == 400 and ask("POST", "/votes", [])[0] == 400
            assert ask("POST", "/votes", good, {"Content-Type": "text/plain"})[0] == 415
            assert ask("POST", "/votes", b"x" * 70_000)[0] == 413
            assert ask("POST", "/elsewhere", good)[0] == 404
            assert votes.all() == []
            assert ask("POST", "/votes", good) == (200, {"saved": 1})
            assert ask("POST", "/votes", good | {"rater": "s"})[0] == 403
            assert ask("GET", "/votes?rater=r") == (
                200,
                {"votes": {item.id: {"values": {"alignment": 1}}}},
            )
            assert ask("GET", "/votes?rater=s") == (200, {"votes": {}})
            many = [
                threading.Thread(target=ask, args=("POST", "/votes", good | {"item": i.id}))
                for i in study.items
            ]
            for one in many:
                one.start()
            for one in many:
                one.join()
            assert len(votes.all()) == len(study.items)  # at once, and none lost
        finally:
            server.shutdown()
            thread.join()


def lines(path: Path, rows: list[dict]) -> str:
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return str(path)


def test_captions_are_scored_by_language(tmp_path, capsys):
    pictures = samples(tmp_path / "pictures", ["x", "y"], 1)
    files = []
    for name in ("good", "bad"):
        rows = []
        for i in range(2):
            captions = [
                {"text": f"{name} {i}", "language": "en"},
                {"text": f"图 {name} {i}", "language": "zh"},
            ]
            rows.append(
                {"image": str(pictures / f"{i:05d}.png"), "captions": captions, "scores": [0, 0]}
            )
        files.append(lines(tmp_path / f"{name}.jsonl", rows))
    study = make(tmp_path / "s", ",".join(files), "--protocol=captions")
    assert len(study.items) == 8 and {len(i.pictures) for i in study.items} == {1}
    votes = []
    for item in study.items:
        for question in ("fluency", "relevance", "richness"):
            value = (
                (2 if item.models == ("good",) else 0)
                if question == "relevance"
                else 1
                if item.language == "zh"
                else 2
            )
            votes.append({"item": item.id, "question": question, "value": value, "time": 1.0})
    options = [kept(tmp_path, study, rater, votes) for rater in ("r", "s")]
    assert judge(f"--out={tmp_path / 's'}", *options, "--report") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert " zh fluency " in shown and "2 of 5 raters finished, 48 votes" in shown
    report = json.loads((tmp_path / "s" / "report.json").read_text())
    rows = {(q, r["system"]): r for q, found in report["metrics"]["all"].items() for r in found}
    assert rows["relevance", "good"]["mean"] == 2 and rows["relevance", "bad"]["mean"] == 0
    assert (
        rows["fluency", "good"]["mean"] == 1.5
        and rows["fluency", "good"]["alpha"] == 1
        and rows["fluency", "good"]["prompts"] == 2
    )
    assert rows["average", "good"]["mean"] == pytest.approx((1.5 + 2 + 1.5) / 3)
    assert rows["relevance", "good"]["alpha"] is None  # nobody ever said anything else
    chinese = {
        (q, r["system"]): r
        for q, found in report["metrics"]["language"]["zh"].items()
        for r in found
    }
    assert chinese["fluency", "bad"]["mean"] == 1 and chinese["fluency", "bad"]["votes"] == 4
    assert report["protocol"]["raters"] == {"planned": 5, "voted": 2, "finished": 2}


def test_answers_pass_for_human_as_often_as_raters_say(tmp_path):
    pictures = samples(tmp_path / "pictures", ["x"], 1)
    rows = [{"image": "00000.png", "question": f"what is {i}?", "answer": "x"} for i in range(4)]
    file = lines(pictures / "m.jsonl", rows)  # pictures beside the file
    study = make(tmp_path / "s", file, "--protocol=vqa")
    votes = [
        {"item": item.id, "question": "human", "value": int(i < 3), "time": 1.0}
        for i, item in enumerate(study.items)
    ]
    assert judge(f"--out={tmp_path / 's'}", kept(tmp_path, study, "r", votes), "--report") == 0
    report = json.loads((tmp_path / "s" / "report.json").read_text())
    (row,) = report["metrics"]["all"]["human"]
    assert row["mean"] == 0.75 and row["given"] == {"0": 1, "1": 3} and row["prompts"] == 4
    assert report["metrics"]["all"]["quality"] == [] and "average" not in report["metrics"]["all"]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_in_both_languages_and_its_keys_are_its_own(name):
    protocol = PROTOCOLS[name]
    for text in (protocol.title, *protocol.instructions, *(q.text for q in protocol.questions)):
        assert text["zh"].strip() and text["en"].strip()
    for question in protocol.questions:
        keys = [key for choice in question.choices for key in choice.keys]
        assert len(keys) == len(set(keys)) and len(question.values) == len(question.choices)
        assert all(
            choice.keys[0].isdigit() and set(choice.text) == {"zh", "en"}
            for choice in question.choices
        )
    assert len({q.name for q in protocol.questions} | {"average"}) == len(protocol.questions) + 1


def test_serving_ends_with_ctrl_c_and_goes_on_by_the_same_command(three, tmp_path):
    command = [
        sys.executable,
        "-m",
        "vilg",
        "judge",
        f"--samples={three}",
        f"--out={tmp_path / 's'}",
        "--port=0",
    ]
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a child of a shell's background job would inherit deafness to it
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("27 items, 0 of 5 raters have begun; open http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "0 votes in" in out and not err
    assert make(tmp_path / "s", three).raters == 5
