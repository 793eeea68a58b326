"""`vilg config`: an experiment's fields, two experiments' differences, and copies."""

import json

import pytest

from vilg.experiment_file import load_config, to_dict
from vilg.run import cli

SHOWN = ["config", "show", "ernie_vilg:tiny"]


def test_show_prints_every_field_with_its_help(capsys, tmp_path):
    assert cli.main([*SHOWN, f"--json={tmp_path / 'fields.json'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (width,) = (line for line in lines if line.startswith("  generator.width = "))
    assert width.split("  ")[1:3] == ["generator.width = 64", "[default 128]"]
    assert width.endswith("width of a position's state")
    (ratio,) = (line for line in lines if line.startswith("  generator.mlp_ratio = "))
    assert "  [left out]  " in ratio
    assert any(line.startswith("generator: Autoregressive (vilg/generators/") for line in lines)
    content = json.loads((tmp_path / "fields.json").read_text())
    assert content["config"] == "ernie_vilg:tiny" and "diff" not in content
    rows = {row["path"]: row for row in content["fields"]}
    assert rows["generator.width"]["value"] == 64 and rows["generator.width"]["default"] == 128
    assert rows["training.steps"]["required"] and rows["generator.mlp_ratio"]["left_out"]
    assert rows["generator.width"]["class"] == "vilg.generators.autoregressive.Autoregressive"
    assert len(rows) == sum(line.startswith("  ") for line in lines)


def test_overrides_are_shown(capsys):
    argv = ["config", "show", "--config=ernie_vilg:tiny", "--config.generator.mlp_ratio=3"]
    assert cli.main([*argv, "--only=generator"]) == 0
    said = capsys.readouterr().out
    assert "generator.mlp_ratio = 3.0  [default 4.0]" in said and "training.steps" not in said


def test_diff_prints_the_differing_fields_alone(capsys, tmp_path):
    file = tmp_path / "diff.json"
    assert cli.main([*SHOWN, "--diff=ernie_vilg:small_snapped", f"--json={file}"]) == 0
    said = capsys.readouterr().out
    assert "generator.width = 64  [192 in ernie_vilg:small_snapped]" in said
    assert "generator.patterns" not in said
    rows = {row["path"]: row for row in json.loads(file.read_text())["fields"]}
    assert (rows["generator.width"]["value"], rows["generator.width"]["other"]) == (64, 192)
    assert cli.main([*SHOWN, "--diff=ernie_vilg:tiny"]) == 0
    assert capsys.readouterr().out == ""


def test_a_field_of_one_side_alone_is_absent_on_the_other(capsys):
    assert cli.main([*SHOWN, "--diff=ernie_vilg2:tiny", "--only=generator"]) == 0
    said = capsys.readouterr().out
    assert "generator.layers = 2  [absent in ernie_vilg2:tiny]" in said
    assert "generator.experts.n = absent  [1 in ernie_vilg2:tiny]" in said


@pytest.mark.parametrize("name", ["ernie_vilg", "ernie_vilg:small", "ernie_vilg2:tiny", "noise"])
def test_a_copy_is_the_experiment_with_its_size_as_default(name, tmp_path, monkeypatch):
    wanted = to_dict(load_config(name))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["config", "copy", name, "--out=deep/mine.py"]) == 0
    assert to_dict(load_config("deep/mine.py")) == wanted
    text = (tmp_path / "deep" / "mine.py").read_text()
    assert text.startswith("# Copied from ") and text.count("def get_config(") == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["copy", "ernie_vilg", "--out=there.py"], "out='there.py': is there already"),
        (["copy", "ernie_vilg", "--out=mine.txt"], "out='mine.txt': give a new file"),
        (["copy", "ernie_vlig", "--out=mine.py"], "did you mean the packaged ernie_vilg?"),
        (["copy", "ernie_vilg:tinny", "--out=mine.py"], "did you mean 'tiny'?"),
        (["show"], "name one experiment"),
        (["show", "ernie_vilg", "--config=ernie_vilg"], "name one experiment"),
        (["show", "ernie_vilg", "--only=generatr"], "only='generatr': no field is below it"),
        (["show", "ernie_vilg", "--diff=ernie"], "did you mean the packaged ernie_vilg"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.py").write_text("mine")
    assert cli.main(["config", *argv]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["there.py"]
    assert (tmp_path / "there.py").read_text() == "mine"
