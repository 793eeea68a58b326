"""Experiments by name, by path and beside each other."""

import shutil

import pytest

from vilg.experiment_file import load_config, load_file, to_dict
from vilg.packaged import experiment_path, packaged
from vilg.run import cli
from vilg.types import UserError


def test_names_are_those_of_the_files():
    known = packaged()
    assert {"ernie_vilg", "quickstart", "ablations/noise"} <= set(known)
    assert all(file.is_file() for file in known.values())
    stems = [file.stem for file in known.values()]
    assert sorted(set(stems)) == sorted(stems), "an ablation has an experiment's name"


@pytest.mark.parametrize("name", ["ernie_vilg:tiny", "ablations/noise", "noise"])
def test_a_name_is_the_experiment_in_every_directory(name, tmp_path, monkeypatch):
    there = to_dict(cli.read_config([f"--config={name}"]))
    monkeypatch.chdir(tmp_path)
    assert to_dict(cli.read_config([f"--config={name}"])) == there


def test_a_file_wins_over_a_packaged_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert experiment_path("ernie_vilg") == packaged()["ernie_vilg"]
    (tmp_path / "ernie_vilg.py").write_text("MINE = True\n")
    assert load_file("ernie_vilg.py").MINE
    (tmp_path / "tokenizer.py").write_text("MINE = True\n")
    assert load_file("tokenizer.py", beside=str(tmp_path / "x.py")).MINE


@pytest.mark.parametrize("name", packaged())
def test_a_copy_elsewhere_finds_the_experiments_that_it_refers_to(name, tmp_path):
    copy = tmp_path / "mine.py"
    shutil.copy(packaged()[name], copy)
    assert to_dict(load_config(str(copy))) == to_dict(load_config(name))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("ernie_vlig", "config='ernie_vlig': there is no such file and no packaged experiment"),
        ("ernie_vlig", "did you mean the packaged ernie_vilg?"),
        ("experiments/ernie_vilg.py", "did you mean the packaged ernie_vilg?"),
        ("ablation/noise", "did you mean the packaged noise?"),
        ("nothing_like_it.py", "packaged are ablations/experts, "),
    ],
)
def test_a_name_that_is_not_there_names_near_ones(path, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", f"--config={path}:tiny", "--workdir=w"]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_reference_that_leads_nowhere_is_said(tmp_path):
    with pytest.raises(UserError, match="config='tokeniser.py': .*mean the packaged tokenizer"):
        load_file("tokeniser.py", beside=str(tmp_path / "mine.py"))


def test_the_quickstart_has_a_default_experiment_that_overrides_change():
    default = cli.VERBS["quickstart"].config
    assert default is not None
    found = cli.config_arguments(["--config.training.steps=7"], default)
    assert found == ["--config=quickstart", "--config.training.steps=7"]
    assert cli.read_config(found).training.steps == 7
    args = cli.parser_of("quickstart").parse_args([])
    assert (args.config, args.workdir) == ("quickstart", "runs/quickstart")
    named = cli.config_arguments(["--config", "x.py"], "quickstart")
    assert named == ["--config=x.py"]
