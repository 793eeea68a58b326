"""launch/setup.sh makes one environment per Python, and .ci/run finds another Python; interpreters
are stand-ins.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# Answers what the scripts ask a Python: its version, to make an environment, and to install.
PYTHON = """#!/usr/bin/env bash
case "$*" in
  "-c "*) echo {version} ;;
  "-m venv --clear "*) rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  "-m pip install "*) echo "{version} installs ${{@: -1}}" >>installs ;;
  *) exit 3 ;;
esac
"""


def interpreter(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PYTHON.format(version=version))
    path.chmod(0o755)
    return path


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "launch").mkdir()
    shutil.copy("launch/setup.sh", tmp_path / "launch")
    (tmp_path / "pyproject.toml").touch()
    for version in ("3.10", "3.11", "3.12", "3.14"):
        interpreter(tmp_path / "bin" / f"python{version}", version)
    interpreter(tmp_path / "bin" / "python3", "3.11")
    return tmp_path


def run(clone: Path, command: list[str], **variables: str) -> subprocess.CompletedProcess:
    path = f"{clone / 'bin'}:/usr/bin:/bin"
    environment = {"PATH": path, "HOME": str(clone), **variables}
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)


def setup(clone: Path, **variables: str) -> subprocess.CompletedProcess:
    script = 'set -euo pipefail; . launch/setup.sh; echo "$venv"'
    return run(clone, ["bash", "-c", script], **variables)


def installs(clone: Path) -> list[str]:
    return (clone / "installs").read_text().splitlines()


def test_every_python_has_an_environment_of_its_own(clone):
    assert setup(clone).stdout == ".venv\n" and installs(clone) == ["3.11 installs ."]
    made = setup(clone, PYTHON="python3.12", EXTRAS="[dev]")
    assert made.stdout == ".venv-3.12\n" and installs(clone)[1:] == ["3.12 installs .[dev]"]
    said = ".venv has Python 3.11, so Python 3.12 has its own environment, .venv-3.12"
    assert said in made.stderr.splitlines()
    assert setup(clone, PYTHON="python3.12", EXTRAS="[dev]").stdout == ".venv-3.12\n"
    assert setup(clone, PYTHON="python3.11").stdout == setup(clone).stdout == ".venv\n"
    assert len(installs(clone)) == 2, "what is there is not installed again"


def test_the_first_python_that_is_asked_for_gets_the_usual_environment(clone):
    assert setup(clone, PYTHON="python3.12").stdout == ".venv\n"
    (clone / "bin" / "python3").unlink()
    assert setup(clone).stdout == ".venv\n", "it needs no other Python then"


def test_a_changed_pyproject_is_installed_again_and_a_broken_environment_made_anew(clone):
    setup(clone)
    later = (clone / ".venv" / ".vilg-installed").stat().st_mtime + 10
    os.utime(clone / "pyproject.toml", (later, later))
    setup(clone)
    assert installs(clone) == ["3.11 installs ."] * 2
    (clone / ".venv" / "bin" / "python").unlink()
    (clone / ".venv" / "bin" / "python").symlink_to("/no/such/python")
    assert setup(clone, PYTHON="python3.12").stdout == ".venv\n"


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        (
            "python3.10",
            "PYTHON=python3.10 is Python 3.10, and vilg is tested on 3.11, 3.12 and 3.13",
        ),
        (
            "python3.14",
            "PYTHON=python3.14 is Python 3.14, and vilg is tested on 3.11, 3.12 and 3.13",
        ),
        ("python9", "PYTHON=python9 does not run; set PYTHON to a Python 3.11, 3.12 or 3.13"),
    ],
)
def test_a_python_that_does_not_fit_is_one_sentence(python, sentence, clone):
    refused = setup(clone, PYTHON=python)
    assert refused.returncode == 2 and refused.stderr.startswith(sentence)
    assert refused.stderr.count("\n") == 1 and not (clone / ".venv").exists()


@pytest.mark.parametrize("found", ["on the path", "pyenv's", "none"])
def test_ci_runs_a_part_of_the_suite_on_another_python(found, clone):
    (clone / ".ci").mkdir()
    shutil.copy(".ci/run", clone / ".ci")
    (clone / "launch" / "test.sh").write_text('echo "tests on ${PYTHON:-the first Python}: $*"\n')
    (clone / "bin" / "chromium").write_text("#!/bin/sh\n")
    (clone / "bin" / "chromium").chmod(0o755)
    interpreter(clone / ".venv" / "bin" / "python", "3.12")
    for version in ("3.11", "3.13"):  # as pyenv's shims of versions that are not chosen
        shim = interpreter(clone / "bin" / f"python{version}", version)
        shim.write_text("#!/bin/sh\nexit 127\n")
    variables = {"PYENV_ROOT": str(clone / "pyenv")}
    other = {
        "on the path": clone / "bin" / "python3.13",
        "pyenv's": clone / "pyenv" / "versions" / "3.13.9" / "bin" / "python",
    }.get(found)
    if other:
        interpreter(other, "3.13")
    ended = run(clone, ["bash", ".ci/run"], **variables)
    assert ended.returncode == 0, ended.stderr
    first, *more = ended.stdout.splitlines()
    assert first == "tests on the first Python: "
    if other:
        name = "python3.13" if found == "on the path" else other
        assert more[0] == "Python 3.13: a part of the suite, which touches every layer"
        assert more[1].startswith(f"tests on {name}: tests/contracts/test_names.py ")
        parts = more[1].partition(": ")[2].split()
        assert all(Path(part).exists() for part in parts)
        directories = {file.parent.name for file in Path("tests").glob("*/test_*.py")}
        assert {part.split("/")[1] for part in parts} == directories
    else:
        assert more == [
            "the suite ran on Python 3.12 only: no other of 3.11, 3.12 and 3.13 is installed here"
        ]
