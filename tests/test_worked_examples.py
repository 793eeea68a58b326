"""The worked examples of the pages are complete: their code, put into its table by the line that
the page shows, does what the page says.
"""

import re
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import vilg.evals
import vilg.experiment
import vilg.generators
from tests.conftest import tiny_config
from tests.contracts import models, test_evaluators, test_generators
from tests.contracts.test_evaluators import text_model  # noqa: F401  a fixture
from tests.contracts.test_layouts_agree import inputs_of, step
from vilg.experiment import build_experiment


def code_of(page: str, defines: str) -> types.ModuleType:
    """A module of the page's block that defines a class."""
    found = re.findall(r"^```python\n(.*?)^```", Path(page).read_text(), re.M | re.S)
    (block,) = (b for b in found if f"class {defines}" in b)
    module = types.ModuleType(f"{Path(page).parent.as_posix().replace('/', '.')}.example")
    exec(block, vars(module))
    return module


@pytest.fixture
def bag_of_words(monkeypatch) -> str:
    kind = code_of("vilg/README.md", "BagOfWords").BagOfWords
    for table in (vilg.generators.GENERATORS, vilg.experiment.MODELS):
        monkeypatch.setitem(table, "bag_of_words", kind)
    return "bag_of_words"


def test_the_example_of_a_generator_keeps_the_contract(bag_of_words):
    models.check_trainable(bag_of_words)
    test_generators.test_is_a_frozen_generator_of_a_known_space(bag_of_words)
    test_generators.test_samples_are_codes_in_range(bag_of_words)
    test_generators.test_a_row_does_not_depend_on_its_batch_mates(bag_of_words)
    test_generators.test_sampling_options_are_known_by_name_and_reach_the_controls(bag_of_words)


@pytest.mark.parametrize("layout", ["fsdp", "fsdp_tp:model=2"])
def test_the_example_of_a_generator_has_one_loss_under_every_layout(bag_of_words, layout):
    config = tiny_config()
    config.generator = {"name": bag_of_words}
    experiment = build_experiment(config)
    inputs = inputs_of(experiment)
    alone, sharded = step(experiment, "dp", 1, inputs), step(experiment, layout, 8, inputs)
    np.testing.assert_allclose(alone.loss, sharded.loss, rtol=1e-5)
    for one, other in zip(
        jax.tree.leaves(alone.gradients), jax.tree.leaves(sharded.gradients), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_example_of_an_evaluator_keeps_the_contract(monkeypatch, text_model):  # noqa: F811
    kind = code_of("vilg/evals/README.md", "Darkness").Darkness
    monkeypatch.setitem(vilg.evals.EVALUATORS, "darkness", kind)
    test_evaluators.test_is_a_frozen_evaluator_whose_protocol_is_json("darkness")
    test_evaluators.test_an_unknown_field_is_a_sentence("darkness")
    test_evaluators.test_gives_named_numbers_that_repeat("darkness", text_model)
