"""Eight fake devices for every test, and programs compiled without optimization and once: tests
compile far more than they compute.
"""

import atexit
import os
import shutil
import tempfile

from tests.flags import UNOPTIMIZED

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ["XLA_FLAGS"] = (  # the caller's flags come last and win
    f"--xla_force_host_platform_device_count=8 {UNOPTIMIZED} {os.environ.get('XLA_FLAGS', '')}"
)
if (
    "JAX_COMPILATION_CACHE_DIR" not in os.environ
):  # xdist's processes and the tests' own inherit it, and share what they compile
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="vilg-tests-xla-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from typing import TYPE_CHECKING

import pytest
from ml_collections import ConfigDict

import tests.checking  # noqa: F401  before vilg, which it checks
from vilg.experiment_file import load_config
from vilg.run.terminal import silence

# tests of what a command prints expect its lines alone, however slow the machine is
silence.SILENCE = float("inf")

if TYPE_CHECKING:  # a test imports the packages that it tests, and no others
    from vilg.experiment import Experiment


def tiny_config(**changes) -> ConfigDict:
    """experiments/ernie_vilg.py:tiny made smaller still; `changes` are dotted paths with "__" for
    the dots.
    """
    config = load_config("experiments/ernie_vilg.py:tiny")
    config.generator.update(width=32, layers=2, heads=2, caption_every=1)
    config.training.update(steps=6, batch_size=16, checkpoint_every=2, log_every=1)
    config.codec.floors = {}
    config.codec.experiment.training.update(steps=4, batch_size=16, checkpoint_every=2, log_every=1)
    config.codec.experiment.codec.update(autoencoder_warmup=2, vocabulary=64, bank=1024)
    config.codec.experiment.codec.architecture.update(width=32, depth=1, channels=8)
    config.data.text.update(records=300)
    config.evals = ConfigDict({})
    return changed(config, changes)


def tiny_diffusion(**changes) -> ConfigDict:
    """A diffusion generator of one layer on the same codec; its rates are high, so that six updates
    leave no output zero.
    """
    config = tiny_config()
    config.generator = ConfigDict(
        dict(
            name="diffusion",
            process=dict(name="gaussian", prediction="v", weighting=dict(name="unit")),
            denoiser=dict(name="dit", width=32, layers=1, heads=2, zero_gates=False, scan=False),
            text=dict(width=32, layers=1, heads=2, embed_scale=0.5, scan=False),
            experts=dict(n=1, only=-1),
        )
    )
    config.optimizer = ConfigDict(
        dict(kind="adamw", learning_rate=0.05, schedule="constant", warmup_steps=0, clip=0.0)
    )
    config.training.update(ema=0.5, checkpoint_every=6)
    config.evals = ConfigDict(
        dict(scenes=dict(n=2, captions=False, cells=("single_object",), guidance=2.0, steps=3))
    )
    return changed(config, changes)


def tiny_ranker(**changes) -> ConfigDict:
    """experiments/ranker.py:tiny with towers of one layer."""
    config = load_config("experiments/ranker.py:tiny")
    config.generator.image.update(width=32, layers=1, heads=2)
    config.generator.text.update(width=32, heads=2)
    config.generator.update(projection=16)
    config.training.update(steps=6, batch_size=16, checkpoint_every=3, log_every=1)
    config.data.text.update(records=300)
    config.evals = ConfigDict({})
    return changed(config, changes)


def changed(config: ConfigDict, changes: dict) -> ConfigDict:
    """The config with the values at dotted paths, "__" for the dots."""
    from vilg.overrides import override

    paths = {path.replace("__", "."): value for path, value in changes.items()}
    return ConfigDict(override(config.to_dict(), paths))


@pytest.fixture
def config():
    """A function that makes a tiny config."""
    return tiny_config


@pytest.fixture
def tiny() -> "Experiment":
    """A tiny generator experiment."""
    from vilg.experiment import build_experiment

    return build_experiment(tiny_config())
