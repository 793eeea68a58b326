"""The window of a trace, XLA's flags by name, and what the workdir records of both."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from tests.conftest import tiny_ranker
from vilg.compiler.flags import FLAG_SETS, add_flags
from vilg.run import cli
from vilg.types import UserError
from vilg.workdir.profile import Profiled, parse_window


def test_the_window_traces_its_updates_and_no_other(tmp_path, monkeypatch):
    began, ended = [], []
    monkeypatch.setattr(
        "jax.profiler.start_trace", lambda place: began.append((place, steps[-1] if steps else 0))
    )
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: ended.append(steps[-1]))
    for start, left_open in ((0, 4), (3, 4), (4, 6), (9, None)):
        steps: list[int] = []

        def update(state, batch, start=start, steps=steps):
            steps.append(start + len(steps) + 1)
            return state + 1, {"loss": jnp.float32(0)}

        profiled = Profiled(
            update,
            (3, left_open if start == 4 else 4) if left_open else (3, 4),
            tmp_path / "profile",
            start,
        )
        state = jnp.int32(start)
        for _ in range(6 if start == 0 else 1):
            state, _ = profiled(state, {})
        profiled.close()
    assert [step for _, step in began] == [2, 0, 0] and ended == [
        4,
        4,
        5,
    ], "the last is cut by the run's end"
    assert {place for place, _ in began} == {str(tmp_path / "profile")}


@pytest.mark.parametrize("text", ["5", "0:3", "4:3", "a:b", "3:", "-1:2"])
def test_a_window_that_is_none_is_a_sentence(text):
    with pytest.raises(UserError, match=f"profile='{text}': write the first and the last update"):
        parse_window(text)


def test_flags_join_what_is_told_which_wins():
    environment = {"LIBTPU_INIT_ARGS": "--xla_enable_async_all_gather=false --other=1"}
    add_flags("tpu_async_gather,gpu_overlap", environment)
    told = environment["LIBTPU_INIT_ARGS"].split()
    assert "--xla_enable_async_all_gather=true" not in told and told[-2:] == [
        "--xla_enable_async_all_gather=false",
        "--other=1",
    ]
    assert "--xla_tpu_overlap_compute_collective_tc=true" in told
    assert environment["XLA_FLAGS"] == "--xla_gpu_enable_latency_hiding_scheduler=true"
    with pytest.raises(UserError, match="flags='gpu_overlp': did you mean 'gpu_overlap'"):
        add_flags("gpu_overlp", environment)
    with pytest.raises(
        UserError,
        match=(
            "tpu_vmem and tpu_vmem_v5 give --xla_tpu_scoped_vmem_limit_kib other values, 98304 and"
            " 50000"
        ),
    ):
        add_flags("tpu_vmem,tpu_vmem_v5", environment)
    add_flags("tpu_sparsecore,tpu_sparsecore_gather", {})  # which share a flag


def test_an_option_of_jaxs_has_one_value_and_what_is_told_wins(monkeypatch):
    environment = {}
    add_flags("tpu_quick_compile", environment)
    assert environment == {"JAX_OPTIMIZATION_LEVEL": "O1"}
    monkeypatch.setenv("JAX_OPTIMIZATION_LEVEL", "O0")
    before = jax.config.jax_optimization_level
    try:
        add_flags("tpu_quick_compile")
        assert str(jax.config.jax_optimization_level) == "O0", (
            "JAX has read its environment before; it is told"
        )
    finally:
        jax.config.update("jax_optimization_level", str(before))


def test_xla_knows_every_flag_that_it_is_given():
    flags = " ".join(
        flag for s in FLAG_SETS.values() if s.variable == "XLA_FLAGS" for flag in s.flags
    )
    code = "import jax; jax.devices()"  # XLA ends a process that gives it an unknown flag
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "XLA_FLAGS": flags}
        ).returncode
        == 0
    )


def test_a_run_is_traced_and_says_with_which_flags(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "read_config", lambda _: tiny_ranker(training__steps=3))
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])
    command = [
        "train",
        "--config=x.py",
        f"--workdir={tmp_path / 'run'}",
        "--quiet",
        "--profile=2:3",
        "--flags=gpu_overlap",
    ]
    assert cli.main(command) == 0
    (trace,) = (tmp_path / "run" / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 1000
    (environment,) = json.loads((tmp_path / "run" / "config.json").read_text())["environments"]
    assert environment["devices"] == 8 and environment["processes"] == 1
    assert (
        environment["XLA_FLAGS"].startswith("--xla_gpu_enable_latency_hiding_scheduler=true")
        and environment["versions"]["jax"]
    )
