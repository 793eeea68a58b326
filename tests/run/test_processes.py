"""One run of several processes: what a pod does, on loopback with fake devices."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.flags import UNOPTIMIZED
from vilg.parallel.processes import coordinates_of, in_cluster
from vilg.training.log import read_metrics
from vilg.types import UserError

SMALL = (
    "--config.generator.width=32",
    "--config.generator.heads=2",
    "--config.generator.layers=1",
    "--config.training.steps=4",
    "--config.training.checkpoint_every=2",
    "--config.training.log_every=1",
    "--config.training.batch_size=16",
    "--config.codec.experiment.training.steps=3",
    "--config.codec.experiment.training.batch_size=16",
    "--config.codec.experiment.training.checkpoint_every=3",
    "--config.codec.experiment.codec.autoencoder_warmup=1",
    "--config.codec.experiment.codec.vocabulary=64",
    "--config.codec.experiment.codec.bank=1024",
    "--config.codec.floors.codebook_usage=0.0",
    "--config.codec.experiment.codec.architecture.width=32",
    "--config.codec.experiment.codec.architecture.channels=8",
    "--config.layout.name=fsdp",
)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def begun(
    workdir: Path, processes: int, devices: int, config: str, *overrides: str
) -> list[subprocess.Popen]:
    """The processes of one `vilg train`; `devices` in all."""
    flags = f"--xla_force_host_platform_device_count={devices // processes} {UNOPTIMIZED}"
    base = {**os.environ, "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "XLA_FLAGS": flags}
    told = (
        {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": str(processes)}
        if processes > 1
        else {}
    )
    command = [
        sys.executable,
        "-m",
        "vilg",
        "train",
        f"--config={config}",
        f"--workdir={workdir}",
        *overrides,
    ]
    return [
        subprocess.Popen(
            command,
            env=base | told | ({"JAX_PROCESS_ID": str(i)} if told else {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]


def ended(running: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """(exit code, standard error) of each process."""
    try:
        ends = [p.communicate(timeout=400)[1] for p in running]
    finally:
        for p in running:
            p.kill()
    return [(p.returncode, end) for p, end in zip(running, ends, strict=True)]


def start(workdir: Path, processes: int, devices: int, *overrides: str) -> list[tuple[int, str]]:
    """(exit code, standard error) of each process of one `vilg train` of a tiny transformer;
    `devices` in all.
    """
    return ended(
        begun(workdir, processes, devices, "experiments/ernie_vilg.py:tiny", *SMALL, *overrides)
    )


def losses(workdir: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(workdir / "metrics.jsonl")]


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_train_what_one_does_and_go_on_from_it(processes, tmp_path):
    for number, sampled in ((processes, ["--config.training.sample_every=4"]), (1, [])):
        ends = start(tmp_path / str(number), number, 4, *sampled)
        assert [code for code, _ in ends] == [0] * number, ends
    several, one = tmp_path / str(processes), tmp_path / "1"
    np.testing.assert_allclose(losses(several / "codec"), losses(one / "codec"), rtol=1e-4)
    np.testing.assert_allclose(losses(several), losses(one), rtol=1e-4)
    assert (several / "samples" / "step_0000004.png").exists()
    ends = start(one, processes, 4, "--config.training.steps=5")
    assert [code for code, _ in ends] == [0] * processes and "goes on from step 4" in ends[0][1], (
        ends
    )
    assert [line["step"] for line in read_metrics(one / "metrics.jsonl")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("number", "told"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_signal_to_one_of_two_processes_or_to_both_saves_one_step_and_ends_both(
    number, told, tmp_path
):
    small = ("width=32", "channels=8")
    sizes = [f"--config.codec.architecture.{size}" for size in small] + [
        "--config.codec.vocabulary=64",
        "--config.codec.bank=1024",
    ]
    often = [
        f"--config.training.{field}"
        for field in ("steps=100000", "batch_size=16", "log_every=1", "checkpoint_every=100000")
    ]
    running = begun(tmp_path, 2, 2, "experiments/tokenizer.py:tiny", *sizes, *often, "--quiet")
    try:
        deadline = time.monotonic() + 200
        while len(read_metrics(tmp_path / "metrics.jsonl")) < 3 and time.monotonic() < deadline:
            time.sleep(0.2)
        for process in running[-told:]:
            process.send_signal(number)
        ends = [process.wait(timeout=60) for process in running]
    finally:
        saved = [process.kill() or process.communicate()[1] for process in running]
    assert ends == [75, 75], saved
    steps = [
        int(place.name) for place in (tmp_path / "checkpoints").iterdir() if place.name.isdigit()
    ]
    last = read_metrics(tmp_path / "metrics.jsonl")[-1]["step"]
    assert steps == [last] and 3 <= last < 100000
    assert all(f"stopped after step {last} by a signal" in text for text in saved), saved


def test_what_the_first_process_refuses_stops_the_others(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "1").mkdir()
    (_, first), (_, second) = ends = start(tmp_path, 2, 2)
    assert [code for code, _ in ends] == [2, 2], ends
    assert "has checkpoints but no config.json" in first and "process 0 failed" in second


def test_processes_are_given_whole_or_not_at_all():
    whole = {"JAX_COORDINATOR_ADDRESS": "host:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert coordinates_of(whole) == ("host:1", 4, 3)
    assert coordinates_of({"JAX_PROCESS_ID": ""}) is None
    for address in ("host", "host:", "host:abc"):
        with pytest.raises(
            UserError, match=f"JAX_COORDINATOR_ADDRESS='{address}': must be host:port"
        ):
            coordinates_of(whole | {"JAX_COORDINATOR_ADDRESS": address})
    with pytest.raises(
        UserError,
        match="JAX_NUM_PROCESSES is not set although JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID is",
    ):
        coordinates_of({k: v for k, v in whole.items() if k != "JAX_NUM_PROCESSES"})
    for wrong in ("4", "-1", "x"):
        with pytest.raises(
            UserError, match=f"JAX_PROCESS_ID='{wrong}' must be a whole number below"
        ):
            coordinates_of(whole | {"JAX_PROCESS_ID": wrong})


STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "127.0.0.1",
}
GKE = {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "a-0,a-1", "TPU_SKIP_MDS_QUERY": "true"}
SLICE = GKE | {
    "MEGASCALE_NUM_SLICES": "2",
    "MEGASCALE_SLICE_ID": "1",
    "MEGASCALE_COORDINATOR_ADDRESS": "localhost",
}


def test_several_tasks_of_a_scheduler_are_found():
    assert in_cluster({"OMPI_COMM_WORLD_SIZE": "8"}) and in_cluster(STEP)
    assert not in_cluster(STEP | {"SLURM_NTASKS": "1", "JAX_PLATFORMS": "cpu"})
    assert not in_cluster({})
    for name in ("SLURM_PROCID", "SLURM_STEP_NODELIST"):
        with pytest.raises(
            UserError, match=f"SLURM_NTASKS=2 but {name} is not set: start the command with srun"
        ):
            in_cluster({k: v for k, v in STEP.items() if k != name})


def test_hosts_of_a_slice_are_found():
    assert in_cluster({}, chips=True) and in_cluster(GKE, chips=True)
    assert not in_cluster({}, chips=False) and not in_cluster(GKE, chips=False), (
        "no chips here, whatever plan has set"
    )
    assert not in_cluster(GKE | {"TPU_WORKER_HOSTNAMES": "localhost"}, chips=True), "one host"
    assert in_cluster(
        GKE | {"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, chips=True
    ), "one host a slice"
    assert not in_cluster(GKE | {"JAX_PLATFORMS": "cpu"}, chips=True) and in_cluster(
        {"JAX_PLATFORMS": "tpu,cpu"}, chips=True
    )


def test_jax_reads_what_srun_and_gke_say(monkeypatch):
    """JAX's own readers of these variables, which jax.distributed.initialize asks, on what the
    recipes' hosts have.
    """
    from jax._src import clusters

    found = {}
    for name, variables in (("slurm", STEP | {"SLURM_STEP_NUM_NODES": "1"}), ("gketpu", SLICE)):
        with monkeypatch.context() as patch:
            for key, value in variables.items():
                patch.setenv(key, value)
            patch.setattr("jax._src.clusters.cloud_tpu_cluster.running_in_cloud_tpu_vm", True)
            (env,) = (c for c in clusters.ClusterEnv._cluster_types if c.name == name)
            assert env.is_env_present()
            found[name] = (
                env.get_coordinator_address(1, None),
                env.get_process_count(),
                env.get_process_id(),
            )
    assert found["slurm"] == ("127.0.0.1:61447", 2, 1) and found["gketpu"] == (
        "localhost:8482",
        4,
        3,
    )
