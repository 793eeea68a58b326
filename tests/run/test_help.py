"""What `vilg --help`, `vilg VERB --help` and `vilg --version` print."""

import importlib.metadata
import re
import shlex
import subprocess
import sys

import pytest

import vilg
from vilg.run import cli


def test_every_verb_stands_in_one_group():
    assert sorted(cli.VERBS) == sorted(name for group in cli.GROUPS.values() for name in group)
    for name, verb in cli.VERBS.items():
        assert re.search(rf"^  {name} +{re.escape(verb.summary)}$", cli.usage(), re.MULTILINE)


def test_help_fits_a_screen(capsys):
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") < 45 and max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_help_of_a_verb_fits_a_screen_and_ends_with_an_example(verb, capsys, monkeypatch):
    """The example's options are the verb's: the verb's own parser takes them."""
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, "--help"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert 3 < len(lines) < 55
    assert lines[-2] == "example:" and lines[-1].startswith(f"  vilg {verb} ")
    example = shlex.split(lines[-1])[2:]
    cli.parser_of(verb).parse_args(example)


def test_an_example_with_an_option_that_is_not_there_is_found(monkeypatch, capsys):
    monkeypatch.setitem(
        cli.VERBS, "caption", cli.Verb("", "--workdir=x --images=x --out=x --top=3")
    )
    with pytest.raises(SystemExit):
        cli.parser_of("caption").parse_args(shlex.split(cli.VERBS["caption"].example))
    assert "did you mean --top_p?" in capsys.readouterr().err


def test_the_help_imports_no_jax():
    code = (
        "import sys\nfrom vilg.run import cli\nassert cli.main(['--help']) == 0\n"
        "print([name for name in ('jax', 'numpy', 'ml_collections') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


def test_no_verb_at_all_is_the_help_and_exit_code_2(capsys):
    assert cli.main([]) == 2
    assert capsys.readouterr().out == cli.usage() + "\n"


def test_the_version_names_packages_and_devices(capsys):
    assert cli.main(["--version"]) == 0
    said = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert said["vilg"] == vilg.__version__ and said["devices"] == "8 x cpu"
    assert said["jaxlib"] == importlib.metadata.version("jaxlib")


def test_devices_that_cannot_be_opened_are_told_in_one_line(capsys, monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'tpu':\n in use by process 7")

    monkeypatch.setattr("jax.devices", devices)
    assert cli.main(["--version"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "devices  none (Unable to initialize backend 'tpu': in use by process 7)"
