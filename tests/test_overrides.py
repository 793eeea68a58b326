"""One function sets a config's fields by their dotted paths; another says what is there."""

import pytest

from tests.conftest import tiny_config, tiny_diffusion
from vilg.overrides import override, values
from vilg.types import UserError


def test_a_value_is_set_in_a_copy():
    config = tiny_config().to_dict()
    changed = override(config, {"training.steps": 7, "codec.experiment.training.steps": 8})
    assert changed["training"]["steps"] == 7 and config["training"]["steps"] == 6
    assert changed["codec"]["experiment"]["training"]["steps"] == 8
    given = {"losses": {"batches": 1}}
    changed = override(config, {"evals": given})
    given["losses"]["batches"] = 2
    assert changed["evals"] == {"losses": {"batches": 1}}, "the value is copied too"


def test_a_star_stands_for_every_section_that_has_the_field():
    config = tiny_diffusion().to_dict()
    assert values(config, "generator.*.scan") == [False, False]
    changed = override(config, {"generator.*.scan": True})
    assert changed["generator"]["denoiser"]["scan"] and changed["generator"]["text"]["scan"]
    assert "scan" not in changed["generator"]["process"] and "scan" not in changed["generator"]
    assert values(changed, "generator.*.scan") == [True, True]
    layers = override(tiny_config().to_dict(), {"generator.*.layers": 3})
    assert layers["generator"]["layers"] == 3, "the section before the star counts"
    deep = {"a": {"b": {"c": {"size": 1}}, "c": {"size": 2}, "d": [{"c": {"size": 3}}]}}
    assert values(deep, "a.*.c.size") == [2, 1] and values(deep, "*.size") == [1, 2]
    assert values(override(deep, {"a.*.c.size": 0}), "*.size") == [0, 0]


def test_values_of_a_path_that_leads_nowhere_are_none():
    config = tiny_config().to_dict()
    for path in ("training.step", "trainin.steps", "seed.steps", "generator.*.dropout"):
        assert values(config, path) == []


def test_a_field_that_the_config_leaves_out_can_be_set():
    config = tiny_config().to_dict()
    del config["generator"]["attention"]
    for path in ("training.keep_best", "codec.experiment.training.keep_best"):
        assert values(config, path) == [] and values(override(config, {path: "x"}), path) == ["x"]
    assert override(config, {"generator.attention": "dense"})["generator"]["attention"] == "dense"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("training.step", "unknown field of Training; did you mean steps"),
        ("codec.experiment.training.step", "unknown field of Training; did you mean steps"),
        ("trainin.steps", "trainin.steps=1: there is no section trainin"),
        ("seed.steps", "seed.steps=1: seed is a value, not a section"),
        ("layout.data", "layout.data=1: the section holds name"),
        ("generator.*.rema", "generator.*.rema=1: no section has this field"),
        ("generator.*", "generator.*=1: must end with the name of a field"),
    ],
)
def test_a_path_that_leads_nowhere_is_one_sentence(path, words):
    with pytest.raises(UserError, match=".*") as error:
        override(tiny_config().to_dict(), {path: 1})
    assert words in str(error.value) and "\n" not in str(error.value)


def test_missing_sections_are_made_where_that_is_asked_for():
    made = override({"seed": 0}, {"a.b.c": 1, "training.step": 2}, create=True)
    assert made == {"seed": 0, "a": {"b": {"c": 1}}, "training": {"step": 2}}
    with pytest.raises(UserError, match="seed is a value, not a section"):
        override({"seed": 0}, {"seed.steps": 1}, create=True)
    with pytest.raises(UserError, match="no section has this field"):
        override({"seed": 0}, {"*.remat": "full"}, create=True)
