"""Finished tiny runs for all of these tests, each trained once, whichever of xdist's processes
wants it first.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import tiny_config, tiny_diffusion, tiny_ranker
from vilg.workdir.training import train


def shared(tmp_path_factory, name: str, config: Callable) -> Path:
    """The one finished run of a config."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / name).exists():
            train(config(), place / f"{name}_being_trained", quiet=True)
            (place / f"{name}_being_trained").rename(place / name)
    return place / name


def trained(tmp_path_factory) -> Path:
    """The transformer's."""
    return shared(
        tmp_path_factory,
        "tiny",
        lambda: tiny_config(training__ema=0.9, evals={"losses": {"batches": 1, "batch_size": 8}}),
    )


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A finished tiny run, codec included; each process has its own copy."""
    return Path(
        shutil.copytree(trained(tmp_path_factory), tmp_path_factory.mktemp("runs") / "tiny")
    )


@pytest.fixture(scope="session")
def codec_run(tmp_path_factory) -> Path:
    """Its codec, to be read only."""
    return trained(tmp_path_factory) / "codec"


@pytest.fixture(scope="session")
def diffusion_run(codec_run, tmp_path_factory) -> Path:
    """A diffusion run of two experts on that codec, to be read only (it tells the codec's place
    relative to itself).
    """
    with codec_is_known():
        return shared(
            tmp_path_factory,
            "diffusion",
            lambda: tiny_diffusion(generator__experts__n=2, codec__workdir=str(codec_run)),
        )


@pytest.fixture(scope="session")
def ranker_run(tmp_path_factory) -> Path:
    """A dual encoder's run, to be read only."""
    return shared(
        tmp_path_factory,
        "ranker",
        lambda: tiny_ranker(evals={"losses": {"batches": 1, "batch_size": 8}}),
    )


@contextlib.contextmanager
def codec_is_known():
    """Without measuring the codec before each generator, which takes longer than training a tiny
    one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "vilg.workdir.training.Reconstruction", lambda images: lambda session: {"psnr": 0.0}
        )
        yield
