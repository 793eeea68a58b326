"""One finished tiny run for all of these tests, whichever of xdist's processes wants it first."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import tiny_config
from vilg.run.train import train


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A finished tiny run, codec included; each process has its own copy."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with (shared / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "tiny").exists():
            config = tiny_config(training__ema=0.9, evals={"losses": {"batches": 1, "batch_size": 8}})
            train(config, shared / "being_trained", quiet=True)
            (shared / "being_trained").rename(shared / "tiny")
    return Path(shutil.copytree(shared / "tiny", tmp_path_factory.mktemp("runs") / "tiny"))
