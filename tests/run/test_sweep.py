"""vilg sweep: what is trained once, what goes on, what a diverged run does, and the numbers of the table."""

import json
import re
from pathlib import Path

import pytest

from vilg.experiment import load_config
from vilg.run import cli, sweep
from vilg.run.sweep import Ablation, figure, plan, read_ablation, summarize
from vilg.training.loop import Diverged

FILE = '''
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
    config = tiny_config(training__steps=2, evals={"losses": {"batches": 1, "batch_size": 8}})
    config.generator.update(layers=1)
    return config
'''


def write(path: Path, text: str = FILE) -> str:
    file = path / "ablation.py"
    file.write_text(text)
    return str(file)


def test_runs_are_trained_once_evaluated_and_gone_on_with(tmp_path, monkeypatch, capsys):
    file, out = write(tmp_path), tmp_path / "out"
    command = ["sweep", f"--config={file}", f"--out={out}", "--quiet"]
    assert cli.main([*command, "--cells=longer,again", "--seeds=0"]) == 0
    first = json.loads((out / "sweep.json").read_text())
    rows = {row["cell"]: row for row in first["rows"]}
    assert list(rows) == ["base", "again", "longer"], "base is needed by longer"
    assert rows["again"]["workdir"] == "base/0" and not (out / "again").exists(), "what differs in evals alone is one run"
    assert rows["base"]["metrics"]["losses/loss"] != rows["again"]["metrics"]["losses/loss"]
    assert rows["again"]["overrides"] == {"evals.losses.batches": 2} and rows["longer"]["steps"] == 1
    assert all(row["parameters"] > 0 and row["cpu_seconds"] > 0 and row["failed"] == "" for row in rows.values())
    assert not (out / "base" / "0" / "codec").exists() and (out / "codec" / "config.json").exists()
    stored = json.loads((out / "longer" / "0" / "config.json").read_text())["config"]
    assert stored["training"]["start_from"] == "../../base/0" and stored["codec"]["workdir"] == "../../codec"
    assert first["summary"]["longer"]["losses/loss"]["difference"]["control"] == "base"
    assert (out / "sweep.png").stat().st_size > 1000

    called = []

    def diverge(config, workdir, quiet, title):
        called.append(title)
        raise Diverged("loss is nan in step 2")

    monkeypatch.setattr(sweep, "train", diverge)
    (out / "codec" / "config.json").unlink()
    capsys.readouterr()
    assert cli.main([*command, "--cells=longer,base"]) == 0
    assert called == ["codec"], "nothing of seed 0 is asked for again, and longer/1 has nothing to start from"
    then = json.loads((out / "sweep.json").read_text())
    assert [row for row in then["rows"] if row["seed"] == 0] == first["rows"]
    failed = {row["cell"]: row["failed"] for row in then["rows"] if row["seed"] == 1}
    assert failed == {"base": "loss is nan in step 2", "longer": "base/1, from which it starts, has failed"}
    assert then["summary"]["base"]["losses/loss"]["mean"] == rows["base"]["metrics"]["losses/loss"]
    shown = capsys.readouterr()
    assert "loss is nan in step 2" in shown.err and "training loss" in shown.out


@pytest.mark.parametrize(
    ("changes", "arguments", "told"),
    [
        ({}, ["--cells=bass"], r"cells='bass': did you mean 'base'\? known names are 'base', 'again'"),
        ({}, ["--seeds=0,a"], "seeds='0,a': must be whole numbers joined by commas"),
        ({}, ["--seeds=-1"], "seeds='-1': must be whole numbers"),
        ({'"evals.losses.batches"': '"evals.losses.batchs"'}, [], "cell 'again': evals.losses.batchs=2: unknown field of Losses; did you mean"),
        ({'"training.steps"': '"trainin.steps"'}, [], "cell 'longer': config.trainin: unknown section"),
        ({'"training.steps"': '"seed.steps"'}, [], "cell 'longer': seed.steps=1: seed is a value, not a section"),
        ({'"training.start_from": "base"': '"training.start_from": "odd"'}, [], "training.start_from='odd': must be a cell that comes before"),
        ({'"base": {},': '"base": 3,'}, [], "CELLS.base=3: must be a mapping of dotted fields"),
        ({'"odd"': '"../odd"'}, [], "CELLS='../odd': must be a file's name"),
        ({'{"longer": "base"}': '{"longer": "bose"}'}, [], "CONTROLS='bose': did you mean 'base'"),
        ({"CELLS = ": "CELL = "}, [], "the file has no CELLS"),
        ({}, ["--cells=odd"], "cell 'odd': training.batch_size=15: must be a multiple"),
    ],
)
def test_mistakes_are_sentences_before_anything_is_trained(tmp_path, capsys, changes, arguments, told):
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
    runs = {cell: run for (cell, _), run in plan(base, read_ablation(file), (5,), tmp_path).items()}
    assert runs["base"].codec == runs["eps"].codec == str(tmp_path / "codec") == runs["eps"].experiment.codec_workdir
    assert runs["kl"].codec == str(tmp_path / "codec_kl") and runs["pixels"].codec == runs["pixels"].experiment.codec_workdir == ""
    assert runs["guidance_4"].workdir == runs["base"].workdir == tmp_path / "base" / "5" and runs["guidance_4"].mark != runs["base"].mark
    assert runs["base"].experiment.seed == runs["base"].experiment.data.loader.seed == 5
    base["codec"]["workdir"] = "elsewhere"
    runs = {cell: run for (cell, _), run in plan(base, read_ablation(file), (5,), tmp_path).items()}
    assert (runs["eps"].codec, runs["eps"].experiment.codec_workdir) == ("", "elsewhere") and runs["kl"].codec == str(tmp_path / "codec_kl")


def test_means_intervals_and_paired_differences():
    def row(cell, seed, share, loss):
        return {"cell": cell, "seed": seed, "failed": "", "metrics": {"scenes/two": share, "scenes/n/two": 50.0, "loss": loss}}

    rows = [row("a", 0, 0.2, 1.0), row("a", 1, 0.4, 3.0), row("b", 0, 0.5, 1.5), row("b", 1, 0.7, 3.5), row("b", 2, 0.6, 9.0)]
    rows.append({"cell": "c", "seed": 0, "failed": "nan", "metrics": {}})
    ablation = Ablation({"a": {}, "b": {}, "c": {}}, metrics={"scenes/two": "two", "loss": "loss"}, controls={"b": "a"})
    summary = summarize(rows, ablation)
    assert summary["a"]["scenes/two"]["mean"] == pytest.approx(0.3) and summary["a"]["scenes/two"]["trials"] == 100
    assert summary["a"]["scenes/two"]["wilson95"] == pytest.approx([0.2189, 0.3959], abs=2e-4)  # 30 of 100
    assert summary["a"]["loss"]["t95"] == pytest.approx([2 - 12.7062, 2 + 12.7062], abs=1e-3)  # 1 degree of freedom
    assert summary["b"]["loss"]["difference"] == {"control": "a", "mean": 0.5, "t95": [0.5, 0.5]}, "seed 2 has no partner"
    assert summary["c"] == {}
    assert figure(summary["a"]["scenes/two"]) == "0.300 [0.219, 0.396]" and figure(None) == "-"
    assert figure(summary["b"]["loss"]).endswith("\n+0.500 [+0.500, +0.500]")
