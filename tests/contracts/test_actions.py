"""Actions of `vilg data` and `vilg score`, and the inputs of `vilg judge`: what each entry of their
tables promises.
"""

import importlib

import pytest

from vilg.report.protocols import PROTOCOLS
from vilg.run import cli, data
from vilg.run.judge.inputs import READERS
from vilg.run.score import verb as score


@pytest.mark.parametrize(
    ("verb", "action"),
    [*(("data", a) for a in data.ACTIONS), *(("score", a) for a in score.ACTIONS)],
)
def test_an_action_explains_its_options(verb, action, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, action, "--help"])
    assert stop.value.code == 0
    explained = capsys.readouterr().out
    assert f"vilg {verb} {action}" in explained and "--" in explained
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, action, "--no_such_option=1"])
    assert stop.value.code == 2


def test_the_help_of_a_verb_names_its_actions():
    for verb, actions in (("data", data.ACTIONS), ("score", score.ACTIONS)):
        words = (importlib.import_module(f"vilg.run.{verb}").__doc__ or "").split()
        assert set(actions) <= set(words)


def test_every_protocol_of_raters_can_be_read_and_every_reader_is_of_one():
    assert {protocol.inputs for protocol in PROTOCOLS.values()} == set(READERS)
