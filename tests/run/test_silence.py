"""A command that computes for long says in which stage it is, and is silent beside other lines."""

import io
import subprocess
import sys
import time

import pytest

from vilg import stage
from vilg.run.terminal import silence
from vilg.run.terminal.standard_error import Unread


class Lines(io.StringIO):
    def fileno(self) -> int:
        raise OSError

    def wait_for(self, words: str) -> str:
        """The text once it has the words; waits for at most a minute."""
        until = time.monotonic() + 60
        while words not in self.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
        return self.getvalue()


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setattr(silence, "SILENCE", 0.05)
    return Lines()


def test_every_stage_is_named_after_a_silence(lines):
    with silence.broken_silence("sample", Unread(lines), quiet=False):
        assert "vilg sample: starting, 0 s\n" in lines.wait_for("starting")
        stage.enter("opening runs/x")
        assert "vilg sample: opening runs/x, 0 s\n" in lines.wait_for("opening")
    said = lines.getvalue()
    stage.enter("after the command")
    time.sleep(0.2)
    assert lines.getvalue() == said, "the thread has ended"


def test_a_command_that_prints_is_not_interrupted(lines):
    stream = Unread(lines)
    with silence.broken_silence("train", stream, quiet=False):
        for _ in range(60):
            stream.write(".")
            time.sleep(0.01)
    assert lines.getvalue() == "." * 60


def test_quiet_is_quiet(lines):
    with silence.broken_silence("train", Unread(lines), quiet=True):
        time.sleep(0.2)
    assert lines.getvalue() == ""


def test_a_stage_tells_the_remaining_time():
    at = stage.Stage("sampling 8 pictures", began=10.0)
    assert at.line(12.0) == "sampling 8 pictures, 2 s"
    half = at._replace(done=2, total=8)
    assert half.line(14.0) == "sampling 8 pictures, 2 of 8, 4 s, ETA 12 s"
    assert half._replace(done=8).line(14.0) == "sampling 8 pictures, 4 s"


def test_the_command_line_speaks_before_a_run_is_open(tmp_path):
    """A process of its own, whose silence lasts as long as a directory cannot be opened."""
    program = """
import sys, time
from vilg.run import cli
from vilg.run.terminal import silence
silence.SILENCE = 0.05
import vilg.types
real = cli.call
def slow(*arguments):
    time.sleep(0.5)
    return real(*arguments)
cli.call = slow
sys.exit(cli.main(sys.argv[1:]))
"""
    argv = ["sample", f"--workdir={tmp_path}", "--prompt=x", f"--out={tmp_path / 'o'}"]
    run = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True)
    said = run.stderr.splitlines()
    assert run.returncode == 2 and said[0].startswith("vilg sample: starting, ")
    assert "holds no config.json" in said[-1]
    quiet = subprocess.run(
        [sys.executable, "-c", program, *argv, "--quiet"], capture_output=True, text=True
    )
    assert quiet.stderr.splitlines() == said[-1:]
