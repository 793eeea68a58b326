"""vilg sweep: what is trained once, what goes on, what a diverged run does, and the numbers of the
table.
"""

import functools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from vilg.experiment_file import load_config
from vilg.run import cli
from vilg.run.sweep import verb as sweep
from vilg.run.sweep.table import figure, summarize
from vilg.types import Diverged
from vilg.workdir.ablation import Ablation, ablation_runs, read_ablation

FILE = """
from tests.conftest import tiny_config

SEEDS = (0, 1)
CELLS = {
    "base": {},
    "again": {"evals.losses.batches": 2},
    "longer": {"training.start_from": "base", "training.steps": 1},
    "odd": {"training.batch_size": 15},
}
METRICS = {"losses/loss": "loss", "training/loss": "training loss"}
CONTROLS = {"longer": "base"}

def get_config(size="tiny"):
    return tiny_config(training__steps=2, evals={"losses": {"batches": 1, "batch_size": 8}})
"""
CODEC = """
from tests.conftest import tiny_config

CELLS = {
    "base": {},
    "again": {"evals.reconstruction.images": 16},
    "longer": {"training.start_from": "base", "training.steps": 1},
}
CONTROLS = {"longer": "base"}

def get_config(size="tiny"):
    config = tiny_config().codec.experiment
    config.training.update(steps=2)
    config.evals.reconstruction.images = 8
    return config
"""


def write(path: Path, text: str = FILE) -> str:
    file = path / "ablation.py"
    file.write_text(text)
    return str(file)


def rows_of(out: Path) -> dict[str, dict]:
    return {
        f"{row['cell']}/{row['seed']}": row
        for row in json.loads((out / "sweep.json").read_text())["rows"]
    }


def test_runs_are_trained_once_and_evaluated(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    command = [
        "sweep",
        f"--config={write(tmp_path, CODEC)}",
        f"--out={out}",
        "--quiet",
        "--seeds=3",
    ]
    assert cli.main([*command, "--cells=longer,again"]) == 0
    rows = rows_of(out)
    assert list(rows) == ["base/3", "again/3", "longer/3"], "base is needed by longer"
    assert rows["again/3"]["workdir"] == "base/3" and not (out / "again").exists(), (
        "what differs in evals alone is one run"
    )
    assert [rows[name]["metrics"]["reconstruction/images"] for name in rows] == [8, 16, 8]
    assert (
        rows["again/3"]["overrides"] == {"evals.reconstruction.images": 16}
        and rows["longer/3"]["steps"] == 1
    )
    assert all(
        row["parameters"] > 0 and row["cpu_seconds"] > 0 and row["metrics"]["training/loss"] > 0
        for row in rows.values()
    )
    stored = json.loads((out / "longer" / "3" / "config.json").read_text())["config"]
    assert stored["training"]["start_from"] == "../../base/3" and stored["seed"] == 3
    assert (
        json.loads((out / "sweep.json").read_text())["summary"]["longer"]["training/loss"][
            "difference"
        ]["control"]
        == "base"
    )
    assert (out / "sweep.png").stat().st_size > 1000 and "training loss" in capsys.readouterr().out
    monkeypatch.setattr(sweep, "train", None)
    assert cli.main(command) == 0, "all is there"
    assert rows_of(out) == rows


def test_codecs_come_first_and_what_diverges_is_a_row(tmp_path, monkeypatch, capsys):
    called = []

    def fake(config, workdir, quiet, title):
        called.append((title, Path(workdir).relative_to(tmp_path).as_posix()))
        if title == "longer/1":
            raise Diverged("loss is nan in step 2")
        if title != "codec":
            assert (config["codec"]["workdir"], config["seed"]) == (
                str(tmp_path / "out" / "codec"),
                int(title[-1]),
            )
        Path(workdir).mkdir(parents=True, exist_ok=True)
        (Path(workdir) / "metrics.jsonl").write_text(
            '{"step": 2, "loss": 4.0, "caption_gap/largest": 0.5}\n'
        )

    monkeypatch.setattr(sweep, "train", fake)
    monkeypatch.setattr(
        sweep,
        "open_session",
        functools.cache(lambda workdir: SimpleNamespace(program=SimpleNamespace(parameters=7))),
    )
    text = FILE.replace('{"losses": {"batches": 1, "batch_size": 8}}', "{}").replace(
        '{"evals.losses.batches": 2}', '{"optimizer.clip": 0.5}'
    )
    text = text.replace('{"training.batch_size": 15}', '{"training.start_from": "longer"}')
    command = ["sweep", f"--config={write(tmp_path, text)}", f"--out={tmp_path / 'out'}", "--quiet"]
    assert cli.main([*command, "--cells=odd"]) == 0
    names = [name for name, _ in called if name != "codec"]
    assert names == ["base/0", "longer/0", "odd/0", "base/1", "longer/1"] and called[0] == (
        "codec",
        "out/codec",
    )
    rows = rows_of(tmp_path / "out")
    assert {name: row["failed"] for name, row in rows.items() if row["failed"]} == {
        "longer/1": "loss is nan in step 2",
        "odd/1": "longer/1, from which this run starts, has failed",
    }
    assert (
        rows["odd/0"]["metrics"] == {"training/loss": 4.0, "caption_gap/largest": 0.5}
        and rows["odd/0"]["parameters"] == 7
    )
    assert "odd/1: longer/1, from which this run starts, has failed" in capsys.readouterr().err
    done = len(called)
    assert cli.main([*command, "--config.training.batch_size=24", "--cells=base", "--seeds=1"]) == 0
    assert len(called) == done + 2 and list(rows_of(tmp_path / "out")) == ["base/1"], (
        "rows of another config do not stay"
    )


@pytest.mark.parametrize(
    ("changes", "arguments", "told"),
    [
        (
            {},
            ["--cells=bass"],
            r"cells='bass': did you mean 'base'\? known names are 'base', 'again'",
        ),
        ({}, ["--seeds=0,a"], "seeds='0,a': must be whole numbers joined by commas"),
        ({}, ["--seeds=-1"], "seeds='-1': must be whole numbers"),
        (
            {'"evals.losses.batches"': '"evals.losses.batchs"'},
            [],
            "cell 'again': evals.losses.batchs=2: unknown field of Losses; did you mean",
        ),
        (
            {'"training.steps"': '"trainin.steps"'},
            [],
            "cell 'longer': config.trainin: unknown section",
        ),
        (
            {'"training.steps"': '"seed.steps"'},
            [],
            "cell 'longer': seed.steps=1: seed is a value, not a section",
        ),
        (
            {'"training.start_from": "base"': '"training.start_from": "odd"'},
            [],
            "training.start_from='odd': must be a cell that comes before",
        ),
        ({'"base": {},': '"base": 3,'}, [], "CELLS.base=3: must be a mapping of dotted fields"),
        ({'"odd"': '"../odd"'}, [], "CELLS='../odd': must be a file's name"),
        ({'{"longer": "base"}': '{"longer": "bose"}'}, [], "CONTROLS='bose': did you mean 'base'"),
        ({"CELLS = ": "CELL = "}, [], "the file has no CELLS"),
        ({}, ["--cells=odd"], "cell 'odd': training.batch_size=15: must be a multiple"),
    ],
)
def test_mistakes_are_sentences_before_anything_is_trained(
    tmp_path, capsys, changes, arguments, told
):
    text = FILE
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    out = tmp_path / "out"
    assert cli.main(["sweep", f"--config={write(tmp_path, text)}", f"--out={out}", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(told, said), said
    assert not out.exists()


def test_codecs_are_shared_by_the_cells_that_have_the_same(tmp_path):
    file = "experiments/ablations/noise.py"
    base = load_config(file).to_dict()
    runs = {
        cell: run
        for (cell, _), run in ablation_runs(base, read_ablation(file), (5,), tmp_path).items()
    }
    assert (
        runs["base"].codec
        == runs["eps"].codec
        == str(tmp_path / "codec")
        == runs["eps"].experiment.codec_workdir
    )
    assert (
        runs["kl"].codec == str(tmp_path / "codec_kl")
        and runs["pixels"].codec == runs["pixels"].experiment.codec_workdir == ""
    )
    assert (
        runs["guidance_4"].workdir == runs["base"].workdir == tmp_path / "base" / "5"
        and runs["guidance_4"].mark != runs["base"].mark
    )
    assert runs["base"].experiment.seed == runs["base"].experiment.data.loader.seed == 5
    base["codec"]["workdir"] = "elsewhere"
    runs = {
        cell: run
        for (cell, _), run in ablation_runs(base, read_ablation(file), (5,), tmp_path).items()
    }
    assert (runs["eps"].codec, runs["eps"].experiment.codec_workdir) == ("", "elsewhere") and runs[
        "kl"
    ].codec == str(tmp_path / "codec_kl")


def test_means_intervals_and_paired_differences():
    def row(cell, seed, share, loss):
        return {
            "cell": cell,
            "seed": seed,
            "failed": "",
            "metrics": {"scenes/two": share, "scenes/n/two": 50.0, "loss": loss},
        }

    rows = [
        row("a", 0, 0.2, 1.0),
        row("a", 1, 0.4, 3.0),
        row("b", 0, 0.5, 1.5),
        row("b", 1, 0.7, 3.5),
        row("b", 2, 0.6, 9.0),
    ]
    rows.append({"cell": "c", "seed": 0, "failed": "nan", "metrics": {}})
    ablation = Ablation(
        {"a": {}, "b": {}, "c": {}},
        metrics={"scenes/two": "two", "loss": "loss"},
        controls={"b": "a"},
    )
    summary = summarize(rows, ablation)
    assert (
        summary["a"]["scenes/two"]["mean"] == pytest.approx(0.3)
        and summary["a"]["scenes/two"]["trials"] == 100
    )
    assert summary["a"]["scenes/two"]["wilson95"] == pytest.approx(
        [0.2189, 0.3959], abs=2e-4
    )  # 30 of 100
    assert summary["a"]["loss"]["t95"] == pytest.approx(
        [2 - 12.7062, 2 + 12.7062], abs=1e-3
    )  # 1 degree of freedom
    assert summary["b"]["loss"]["difference"] == {
        "control": "a",
        "mean": 0.5,
        "t95": [0.5, 0.5],
    }, "seed 2 has no partner"
    assert summary["c"] == {}
    assert figure(summary["a"]["scenes/two"]) == "0.300 [0.219, 0.396]" and figure(None) == "-"
    assert figure(summary["b"]["loss"]).endswith("\n+0.500 [+0.500, +0.500]")


def test_tasks_at_once_are_gathered_without_training_again(tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = ["sweep", f"--config={write(tmp_path, FILE)}", f"--out={out}", "--quiet"]

    def fake(config, workdir, quiet, title):
        Path(workdir).mkdir(parents=True, exist_ok=True)
        (Path(workdir) / "metrics.jsonl").write_text(
            f'{{"step": 2, "loss": {config["seed"] + 1}.0}}\n'
        )

    monkeypatch.setattr(sweep, "train", fake)
    monkeypatch.setattr(
        sweep,
        "open_session",
        functools.cache(lambda workdir: SimpleNamespace(program=SimpleNamespace(parameters=7))),
    )
    monkeypatch.setattr(sweep, "measure", lambda run, session: {"training/loss": run.seed + 1.0})
    for cell, seed in (("base", 0), ("base", 1), ("longer", 0)):
        assert cli.main([*command, "--task", f"--cells={cell}", f"--seeds={seed}"]) == 0
    assert (
        sorted(p.name for p in (out / "tasks").iterdir()) == ["base-0", "base-1", "longer-0"]
        and not (out / "sweep.json").exists()
    )
    monkeypatch.setattr(sweep, "train", None)
    assert cli.main([*command, "--cells=base", "--seeds=0,1"]) == 0
    assert {name: row["metrics"]["training/loss"] for name, row in rows_of(out).items()} == {
        "base/0": 1.0,
        "base/1": 2.0,
        "longer/0": 1.0,
    }
