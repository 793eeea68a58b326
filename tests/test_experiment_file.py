"""Experiment files: sizes, what is wrong with a file, and which fields a run may change."""

from pathlib import Path

import pytest

from tests.conftest import tiny_config
from vilg.experiment_file import (
    CHANGEABLE,
    generator_configs,
    load_config,
    run_identity,
    to_dict,
    without_curriculum,
)
from vilg.overrides import override
from vilg.types import UserError

HEAD = "from ml_collections import ConfigDict\n"


@pytest.mark.parametrize(
    ("text", "size", "words"),
    [
        ("SIZES = ('tiny', 'small')\ndef get_config(size): pass", ":smal", "mean 'small'"),
        ("SIZES = ('tiny', 'small')\ndef get_config(size): pass", ":big", "known names are 'tiny'"),
        (HEAD + "def get_config(): return ConfigDict()", ":big", "x.py has no sizes; leave it out"),
        ("def get_configs(): pass", "", "no function get_config"),
        ("def get_config(): return {}", "", "get_config gives a dict; make it give a ConfigDict"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text, size, words, tmp_path):
    (tmp_path / "x.py").write_text(text)
    with pytest.raises(UserError, match=words):
        load_config(f"{tmp_path}/x.py{size}")


def test_a_file_may_have_no_sizes(tmp_path):
    (tmp_path / "x.py").write_text(HEAD + "def get_config(): return ConfigDict(dict(seed=3))")
    assert load_config(f"{tmp_path}/x.py").seed == 3


@pytest.mark.parametrize("path", [*CHANGEABLE, "training.steps"])
def test_a_changeable_field_is_no_part_of_a_runs_identity(path):
    config = to_dict(tiny_config())
    assert run_identity(override(config, {path: {"other": 1}}, create=True)) == run_identity(config)


@pytest.mark.parametrize("path", ["seed", "training.batch_size", "codec.experiment.training.steps"])
def test_other_fields_and_a_codecs_steps_are_part_of_it(path):
    config = to_dict(tiny_config())
    assert run_identity(override(config, {path: 3})) != run_identity(config)


def test_the_curriculum_is_left_out():
    config = to_dict(load_config("experiments/ernie_vilg2.py:tiny_experts"))
    first = config["training"].pop("first")
    whole = override(config, {"training.first": first}, create=True)
    assert first and without_curriculum(whole) == config


def test_generators_share_the_codec_and_the_first_ones_overrides():
    path = "experiments/quickstart.py:smoke"
    config = override(to_dict(load_config(path)), {"seed": 7, "training.steps": 3})
    configs = generator_configs(path, config, Path("codec"))
    assert list(configs) == ["autoregressive", "diffusion"]
    assert [c["seed"] for c in configs.values()] == [7, 7]
    assert [c["codec"]["workdir"] for c in configs.values()] == ["codec", "codec"]
    assert configs["autoregressive"]["training"]["steps"] == 3
    assert configs["diffusion"]["training"]["steps"] == 20


def test_a_file_without_generators_gives_its_own_config_alone():
    path = "experiments/ernie_vilg.py:tiny"
    configs = generator_configs(path, to_dict(load_config(path)), Path("codec"))
    assert list(configs) == ["autoregressive"]
    path = "experiments/tokenizer.py:tiny"
    with pytest.raises(UserError, match="is a codec's experiment; give one that has a generator"):
        generator_configs(path, to_dict(load_config(path)), Path("codec"))
