"""The wheel: what is in it, and that it works where there is no clone.

The wheel is built from a copy of the tracked files, because setuptools leaves build/ beside the
sources and takes what an earlier build left there."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.flags import UNOPTIMIZED
from vilg.training.log import read_metrics

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("vilg", "experiments", "pyproject.toml", "setup.py", "README.md")


def tracked(*places: str) -> list[str]:
    """The tracked files of the clone below these places."""
    listed = subprocess.check_output(["git", "-C", str(ROOT), "ls-files", *places], text=True)
    return [name for name in listed.splitlines() if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built without network."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked(*SOURCES):
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, f"--wheel-dir={folder}", "."]
    subprocess.run(command, cwd=folder / "source", check=True)
    return next(folder.glob("vilg-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A directory with the wheel's files and its command, for PYTHONPATH: over the packages of the
    tests' environment."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--disable-pip-version-check", f"--target={target}"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    return target


def environment(installed: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(installed), "XLA_FLAGS": UNOPTIMIZED}


def said_by(installed: Path, code: str) -> str:
    """What a Python program prints that imports the installed vilg, called outside of any clone."""
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command,
        cwd=installed,
        env=environment(installed),
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout.strip()


def test_every_tracked_file_of_vilg_and_every_experiment_is_inside(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    here = tracked("experiments/*.py", "experiments/README.md")
    experiments = {f"vilg/{name}" for name in here}
    assert len(experiments) > 10 and inside == {*tracked("vilg"), *experiments}


def test_experiments_are_found_by_name_and_refer_to_each_other(installed):
    code = (
        "import vilg\nfrom vilg.packaged import packaged\n"
        "from vilg.experiment_file import load_config\n"
        "for name in packaged():\n    load_config(name)\n"
        "print(vilg.__file__, *packaged(), sep='\\n')"
    )
    file, *names = said_by(installed, code).splitlines()
    assert file == str(installed / "vilg" / "__init__.py")
    here = {name.removeprefix("experiments/")[:-3] for name in tracked("experiments/*.py")}
    assert set(names) == here


def test_an_installed_vilg_has_no_commit_in_somebody_elses_repository(installed):
    git = ["git", "-C", str(installed), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    try:
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "other"], check=True)
        code = "from vilg.workdir.files import commit\nprint(commit())"
        assert said_by(installed, code) == "unknown"
    finally:
        shutil.rmtree(installed / ".git")


def test_the_quickstart_starts_outside_of_a_clone(installed, tmp_path):
    """The installed command with the default workdir, at smoke size, until the codec has learned
    for a step."""
    command = [installed / "bin" / "vilg", "quickstart", "--config=quickstart:smoke", "--quiet"]
    running = subprocess.Popen(command, cwd=tmp_path, env=environment(installed))
    metrics = tmp_path / "runs" / "quickstart" / "codec" / "metrics.jsonl"
    until = time.monotonic() + 240
    while running.poll() is None and time.monotonic() < until and not read_metrics(metrics):
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 75
    assert read_metrics(metrics)[0]["step"] >= 1


@pytest.mark.slow
def test_a_clean_environment_trains_from_the_wheel_alone(wheel, tmp_path):
    """Installs the wheel and what it depends on from the registry, then runs the quickstart at
    smoke size and an experiment by name."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python, vilg = (tmp_path / "venv" / "bin" / name for name in ("python", "vilg"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean["XLA_FLAGS"] = UNOPTIMIZED
    short = ["--config.training.steps=2", "--config.codec.experiment.training.steps=2"]
    lenient = ["--config.codec.floors.codebook_usage=0"]
    for arguments in (
        ["quickstart", "--config=quickstart:smoke"],
        ["train", "--config=ernie_vilg:tiny", "--workdir=tiny", *short, *lenient],
    ):
        subprocess.run([vilg, *arguments, "--quiet"], cwd=tmp_path, env=clean, check=True)
    assert (tmp_path / "runs" / "quickstart" / "report" / "index.html").exists()
    assert [line["step"] for line in read_metrics(tmp_path / "tiny" / "metrics.jsonl")][-1] == 2
