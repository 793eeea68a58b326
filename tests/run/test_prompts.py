"""Suites through the verbs: sample by name, language and category; evaluate skills of a finished
run, and with a ranker.
"""

import json
import shutil

import numpy as np
import pytest

from tests.conftest import tiny_config
from vilg.experiment_file import to_dict
from vilg.run import cli
from vilg.run.evaluate import show
from vilg.types import UserError
from vilg.workdir.files import Workdir
from vilg.workdir.session import Session
from vilg.workdir.training import train


@pytest.fixture
def suite(tmp_path, monkeypatch):
    (tmp_path / "data" / "vilg_300").mkdir(parents=True)
    rows = (
        '\ufeffPrompt,文本,类别,来源\r\n"a red\r\nring",红色圆环,颜色,DrawBench\r\ntwo'
        " rings,两个圆环,计数,ERNIE-VILG\r\n"
    )
    (tmp_path / "data" / "vilg_300" / "ViLG-300.csv").write_bytes(rows.encode())
    monkeypatch.setenv("VILG_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "vilg_300" / "ViLG-300.csv"


def lines(out):
    return [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


def test_sample_takes_a_suite_by_name_and_writes_where_each_prompt_is_from(run, suite, tmp_path):
    common = ["sample", f"--workdir={run}", f"--out={tmp_path / 'o'}", "--quiet"]
    assert (
        cli.main(
            [
                *common,
                "--prompts=vilg_300",
                "--language=zh",
                "--category=Colors",
                "--prompt=x",
                "--num=2",
            ]
        )
        == 0
    )
    made = lines(tmp_path / "o")
    assert [m["prompt"] for m in made] == [
        "x",
        "x",
        "红色圆环",
        "红色圆环",
    ] and "suite" not in made[0]
    told = {
        "suite": "vilg_300",
        "id": "ViLG-300/1",
        "category": "颜色",
        "category_en": "Colors",
        "source": "DrawBench",
        "language": "zh",
    }
    assert made[2].items() >= told.items() and made[3].items() >= told.items()
    assert cli.main([*common, f"--prompts={suite}", "--num=2"]) == 0
    assert [m["prompt"] for m in lines(tmp_path / "o")][::2] == [
        "a red ring",
        "two rings",
    ], "a path alone is read as any file"
    assert cli.main([*common, f"--prompts={suite}", "--language=zh,en"]) == 0
    assert len(lines(tmp_path / "o")) == 4


def test_the_list_of_suites_says_what_is_here(suite, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["sample", "--prompts=list"])
    rows = {line.split("\t")[0]: line.split("\t") for line in capsys.readouterr().out.splitlines()}
    assert (
        stop.value.code == 0
        and rows["vilg_300"][1] == "yes"
        and rows["geneval"][1] == "no"
        and "djghosh13" in rows["geneval"][-1]
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prompts=geneval"], "get it from github.com/djghosh13/geneval"),
        (["--prompts=vilg300"], "did you mean 'vilg_300'"),
        (["--prompts=vilg_300", "--language=fr"], "language='fr'"),
        (["--prompts=vilg_300", "--category=Colour"], "did you mean 'Colors'"),
        (
            ["--prompts=vilg_300", "--column=Prompt"],
            "column='Prompt': the suite vilg_300 knows its columns",
        ),
        (["--prompt=x", "--category=Colors"], "selects from --prompts=FILE"),
        (["--prompt=x", "--language=zh"], "language='zh': selects from --prompts=FILE"),
    ],
)
def test_mistakes_are_one_sentence(run, suite, tmp_path, capsys, options, words):
    assert cli.main(["sample", f"--workdir={run}", f"--out={tmp_path / 'o'}", *options]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said and not (tmp_path / "o").exists()


def test_training_that_evaluates_says_at_once_which_file_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("VILG_DATA", str(tmp_path))
    config = tiny_config(
        evals={"prompts": dict(suite="geneval", ranker="r")}, training__evaluate_every=2
    )
    with pytest.raises(UserError, match="prompts='geneval': there is no .* get it from"):
        train(config, tmp_path / "w", quiet=True)
    assert not (tmp_path / "w" / "codec").exists()


def test_a_share_of_nothing_at_one_guidance_is_a_dash_in_the_table(capsys):
    points = [
        {"guidance": w, "metrics": {"e": {"all": 0.5, "a": a, "b": b}}}
        for w, a, b in ((1, 0.25, None), (2, None, 0.75))
    ]
    show({"metrics": {}, "guidance": points}, "t")
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
    ]
    assert ["e/a", "0.2500", "-"] in rows and ["e/b", "-", "0.7500"] in rows


def with_evals(run, target, evals):
    """A copy of the run that evaluates something else."""
    shutil.copytree(run, target)
    directory = Workdir(target)
    config = to_dict(tiny_config(evals=evals))
    directory.update(config={**directory.read().config, "evals": config["evals"]})
    return target


def test_evaluate_scores_skills_and_suites_with_a_ranker_that_moves_with_the_run(
    run, suite, tmp_path, monkeypatch
):
    ranked = dict(name="prompts", suite="vilg_300", ranker=str(tmp_path / "runs" / "ranker"))
    evals = {
        "skills": dict(name="prompts", n=1, categories=["colour", "binding"]),
        "vilg_300": ranked,
    }
    copy = with_evals(run, tmp_path / "runs" / "w", evals)
    assert (
        json.loads((copy / "config.json").read_text())["config"]["evals"]["vilg_300"]["ranker"]
        == "../ranker"
    )
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    shutil.copytree(run, tmp_path / "moved" / "ranker")
    opened = []

    def embed_images(self, images):
        opened.append(self)
        return np.ones((len(images), 1), np.float32)

    monkeypatch.setattr(
        Session, "require", lambda self, capability: None
    )  # the ranker is a copy of the run, its features are made up
    monkeypatch.setattr(Session, "embed_images", embed_images)
    monkeypatch.setattr(
        Session,
        "embed_texts",
        lambda self, texts, languages: np.full((len(texts), 1), 0.25, np.float32),
    )
    out = tmp_path / "o.json"
    assert (
        cli.main(
            ["evaluate", f"--workdir={tmp_path / 'moved' / 'w'}", "--guidance=1", f"--out={out}"]
        )
        == 0
    )
    result = json.loads(out.read_text())
    found = result["guidance"][0]["metrics"]
    assert (
        found["skills"]["all"]["skills"]["colour"]["n"] == 4
        and result["protocol"]["skills"]["suite"] == "synthetic"
    )
    assert (
        found["vilg_300"]["all"]["score"] == 0.25
        and found["vilg_300"]["all"]["zh_minus_en"]["pairs"] == 2
    )
    assert found["vilg_300"]["by_category"]["计数"]["category_en"] == "Counting"
    assert len(opened) == 1 and opened[0] is not None
    assert out.with_suffix(".png").is_file()
