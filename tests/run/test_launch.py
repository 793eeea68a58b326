"""vilg launch: the files of every kind pass the tools that read them, and the scripts are run with
stand-ins for the clusters' commands.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.flags import UNOPTIMIZED
from vilg.planning.topology import parse_topology
from vilg.run import cli
from vilg.run.launch.jobs import KINDS
from vilg.run.launch.machines import ordered

CONFIG = "--config=experiments/ranker.py:tiny"
SWEEP = "--config=experiments/ablations/experts.py"
CELL = "experts_5_80_frozen_text"  # starts from dense
WHERE = ("--workdir=gs://bucket/runs/x", "--image=europe-docker.pkg.dev/p/r/vilg:1")
CASES = {
    "tpu_vm": [CONFIG, WHERE[0], "--config.training.steps=7"],
    "tpu_vm/spot": [CONFIG, WHERE[0], "--topology=v5e:2x2,slices=2", "--spot", "--profile=3:5"],
    "gke": [CONFIG, *WHERE],
    "gke/spot": [CONFIG, *WHERE, "--topology=v5p:2x2x4", "--spot", "--restarts=3", "--name=run-1"],
    "multislice": [CONFIG, *WHERE],
    "slurm": [CONFIG, "--config.layout.name=fsdp"],
    "slurm/cpu": [
        CONFIG,
        "--gpus=0",
        "--nodes=4",
        "--partition=cpu",
        "--account=me",
        "--time=2-00:00:00",
    ],
    "sweep": [SWEEP, f"--cells={CELL}", "--seeds=0,1", "--jobs=2"],
    "sweep/cpu": [SWEEP, "--seeds=0", "--gpus=0", "--account=me", "--partition=cpu"],
}


def launch(out: Path, case: str, *more: str) -> Path:
    """The folder with the files of one of CASES."""
    assert cli.main(["launch", case.partition("/")[0], *CASES[case], *more, f"--out={out}"]) == 0
    return out


def test_every_kind_is_tried():
    assert {case.partition("/")[0] for case in CASES} == set(KINDS)


@pytest.mark.parametrize("case", CASES)
def test_scripts_pass_shellcheck_and_manifests_their_schema(case, tmp_path):
    launch(tmp_path, case)
    scripts = [p for p in tmp_path.rglob("*") if p.suffix in (".sh", ".sbatch")]
    assert scripts
    shellcheck = Path(sys.executable).with_name("shellcheck")
    for script in scripts:
        assert subprocess.run(["bash", "-n", script]).returncode == 0
        told = subprocess.run(
            [shellcheck, "-x", script.name],
            cwd=script.parent,
            capture_output=True,
            text=True,
        )
        assert told.returncode == 0, told.stdout
    for manifest in tmp_path.rglob("*.yaml"):
        check_jobset(yaml.safe_load(manifest.read_text()))


def check_jobset(jobset: dict) -> None:
    """The Jobs in a JobSet against Kubernetes' own schema, which knows no other keys; the JobSet
    around them is a CRD, whose few fields are compared by name (jobset.sigs.k8s.io, v1alpha2)."""
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(jobset["spec"]) == {"failurePolicy", "replicatedJobs"}
    assert jobset["spec"]["failurePolicy"]["rules"] == [
        {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    ]
    for job in jobset["spec"]["replicatedJobs"]:
        assert set(job) == {"name", "replicas", "template"} and job["replicas"] > 0
        whole = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": job["name"]},
            **job["template"],
        }
        kubernetes_validate.validate(whole, "1.32", strict=True)


def test_the_schema_refuses_what_is_wrong(tmp_path):
    jobset = yaml.safe_load((launch(tmp_path, "gke") / "jobset.yaml").read_text())
    jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["backofLimit"] = 0
    with pytest.raises(kubernetes_validate.ValidationError, match="backofLimit"):
        check_jobset(jobset)


@pytest.mark.parametrize(
    ("topology", "accelerator", "machine", "hosts", "host_chips"),
    [
        ("v4:4x4x4", "v4-128", "ct4p-hightpu-4t", 16, 4),
        ("v5p:4x4x4", "v5p-128", "ct5p-hightpu-4t", 16, 4),
        ("v5e:16x16", "v5litepod-256", "ct5lp-hightpu-4t", 64, 4),
        ("v5e:2x4", "v5litepod-8", "ct5lp-hightpu-8t", 1, 8),
        ("v6e:16x16", "v6e-256", "ct6e-standard-4t", 64, 4),
        ("v6e:1x1", "v6e-1", "ct6e-standard-1t", 1, 1),
        ("tpu7x:4x4x4", "tpu7x-128", "tpu7x-standard-4t", 16, 4),
    ],
)
def test_slices_have_the_names_that_google_gives_them(
    topology, accelerator, machine, hosts, host_chips
):
    found = ordered(parse_topology(topology))
    assert (found.accelerator, found.machine, found.hosts, found.host_chips) == (
        accelerator,
        machine,
        hosts,
        host_chips,
    )


def test_a_jobset_has_a_process_a_host_and_stops_on_mistakes(tmp_path):
    jobset = yaml.safe_load((launch(tmp_path, "gke/spot") / "jobset.yaml").read_text())
    assert (
        jobset["metadata"]["name"] == "run-1"
        and jobset["spec"]["failurePolicy"]["maxRestarts"] == 3
    )
    (job,) = jobset["spec"]["replicatedJobs"]
    spec, pod = job["template"]["spec"], job["template"]["spec"]["template"]["spec"]
    assert (
        spec["completions"],
        spec["parallelism"],
        spec["completionMode"],
        spec["backoffLimit"],
    ) == (4, 4, "Indexed", 0)
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"] == {
        "containerName": "vilg",
        "operator": "In",
        "values": [1, 2],
    }
    assert (
        pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "2x2x4"
        and pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    )
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert container["command"] == ["vilg", "train", CONFIG, WHERE[0], "--flags=tpu_async_gather"]
    assert container["env"] == [
        {"name": "JAX_COMPILATION_CACHE_DIR", "value": "gs://bucket/runs/compile-cache"}
    ]
    two = yaml.safe_load((launch(tmp_path, "multislice") / "gke" / "jobset.yaml").read_text())[
        "spec"
    ]["replicatedJobs"][0]
    assert two["replicas"] == 2 and two["template"]["spec"]["completions"] == 1
    assert (
        "--flags=tpu_async_gather,tpu_multislice"
        in two["template"]["spec"]["template"]["spec"]["containers"][0]["command"]
    )


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["gka", CONFIG, "--dry-run"], "kind='gka': did you mean 'gke'"),
        (["gke", "--dry-run"], "--config is missing"),
        (["gke", CONFIG], "give --out=DIR to write the files, or --dry-run"),
        (
            ["gke", CONFIG, "--nodes=2", "--dry-run"],
            "--nodes is no option of kind gke; it has --topology, --spot",
        ),
        (["gke", CONFIG, "--topology=v9:2x2", "--dry-run"], "topology='v9': known names are"),
        (["gke", CONFIG, "--topology=cpu:8", "--dry-run"], "is nothing that can be ordered"),
        (
            ["gke", CONFIG, "--topology=v5p:4x4", "--dry-run"],
            "is ordered with 3 sizes, such as 4x4x4",
        ),
        (
            ["gke", CONFIG, "--topology=v5p:1x1x3", "--config.training.batch_size=63", "--dry-run"],
            "a host has 4 chips, which 3 chips do not fill",
        ),
        (
            ["gke", CONFIG, "--topology=v5e:16x16", "--dry-run"],
            "must be a multiple of training.accumulation=1 x 256 batch shards",
        ),
        (
            ["gke", CONFIG, "--config.layout.name=fsdp_tp:model=3", "--dry-run"],
            "does not fit 8 device",
        ),
        (
            ["tpu_vm", CONFIG, "--out=OUT", "--workdir=runs/x"],
            "workdir='runs/x': give a bucket (gs://...), or the absolute path",
        ),
        (
            ["gke", CONFIG, "--out=OUT"],
            "workdir='gs://BUCKET': stands for your own; give --workdir",
        ),
        (["gke", CONFIG, WHERE[0], "--out=OUT"], "stands for your own; give --image"),
        (
            ["gke", CONFIG, "--flags=tpu_asynk", "--dry-run"],
            "flags='tpu_asynk': did you mean 'tpu_async_gather'",
        ),
        (["gke", CONFIG, "--profile=5", "--dry-run"], "profile='5': write the first"),
        (
            ["gke", CONFIG, "--name=Big_Run", "--dry-run"],
            "name='Big_Run': must be at most 39 lower-case",
        ),
        (["gke", CONFIG, "--restarts=-1", "--dry-run"], "restarts=-1: must not be negative"),
        (
            ["tpu_vm", CONFIG, "--topology=tpu7x:2x2x1", "--dry-run"],
            "has no queued resources; give kind gke",
        ),
        (["multislice", CONFIG, "--topology=v5e:2x4", "--dry-run"], "multislice needs several"),
        (
            ["multislice", CONFIG, "--config.layout.name=hybrid_fsdp:replica=1", "--dry-run"],
            "has 1 parts on its mesh axis 'replica'",
        ),
        (["slurm", CONFIG, "--time=tomorrow", "--dry-run"], "time='tomorrow': write it as"),
        (["slurm", CONFIG, "--nodes=0", "--dry-run"], "nodes=0: must be at least 1"),
        (
            ["slurm", CONFIG, "--partition=a b", "--dry-run"],
            "partition='a b': has other characters",
        ),
        (
            ["slurm", CONFIG, "--nodes=5", "--gpus=5", "--dry-run"],
            "must be a multiple of training.accumulation=1 x 25 batch shards",
        ),
        (
            [
                "slurm",
                "--config=experiments/ernie_vilg.py:tiny",
                "--config.layout.name=tp",
                "--dry-run",
            ],
            "which model = 8 does not divide",
        ),
        (["sweep", CONFIG, "--dry-run"], "the file has no CELLS"),
        (["sweep", SWEEP, "--cells=nothing", "--dry-run"], "cells='nothing': known names are"),
    ],
)
def test_mistakes_are_sentences(argv, told, tmp_path, capsys):
    assert cli.main(["launch", *(a.replace("OUT", str(tmp_path / "out")) for a in argv)]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1, said
    assert not (tmp_path / "out").exists()


def test_slices_divide_the_axis_that_the_experts_make(capsys):
    """Its size is known only with the model's parameters."""
    argv = [
        "launch",
        "multislice",
        "--config=experiments/ernie_vilg2.py:tiny_experts",
        "--topology=v5e:2x4,slices=2",
        "--dry-run",
    ]
    assert cli.main(argv) == 0 and "tiny_experts" in capsys.readouterr().out


def test_a_sweeps_flags_are_named_in_its_command(capsys):
    """The compiler of the machine that runs a task is asked which of them it knows."""
    assert cli.main(["launch", "sweep", SWEEP, "--flags=gpu_pipelined", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("--quiet --flags=gpu_pipelined") == 2 and "XLA_FLAGS" not in out


def test_the_config_is_told_as_hosts_find_it(tmp_path, capsys, monkeypatch):
    whole = f"--config={os.path.abspath('experiments/ranker.py')}:tiny"
    assert cli.main(["launch", "gke", whole, "--dry-run"]) == 0
    assert f'"vilg", "train", "{CONFIG}"' in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert cli.main(["launch", "gke", whole, "--dry-run"]) == 2
    assert "is looked up in the clone on every host" in capsys.readouterr().err


def test_a_dry_run_prints_what_out_writes(tmp_path, capsys):
    assert cli.main(["launch", "slurm", *CASES["slurm"], "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert (
        printed
        == "=== train.sbatch ===\n" + (launch(tmp_path, "slurm") / "train.sbatch").read_text()
    )
    assert (
        re.search(r"^#SBATCH --ntasks-per-node=8$", printed, re.M)
        and "--config.layout.name=fsdp" in printed
    )
    assert os.access(tmp_path / "train.sbatch", os.X_OK)


# --- scripts that are run -------------------------------------------------------------------------


def stand_in(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\nset -u\n{text}")
    (folder / name).chmod(0o755)


def run(script: Path, folder: Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": str(cwd),
        **variables,
    }
    return subprocess.run(
        ["bash", script], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


GCLOUD = """
echo "$*" >>"$HOME/calls"
case "$*" in
  *"queued-resources describe"*) cat "$HOME/state" 2>/dev/null; [ -s "$HOME/state" ] ;;
  *"queued-resources create"*) echo ACTIVE >"$HOME/state" ;;
  *"queued-resources delete"*) rm "$HOME/state" ;;
  *"tpu-vm scp"*) cp "$5" "$6" "$HOME" ;;
  *"tpu-vm ssh"*)
    for a in "$@"; do
      case $a in --command=*) cd "$HOME" && bash -c "${a#--command=}"; exit ;; esac
    done ;;
esac
"""
UV = """
case "$1" in
  venv) mkdir -p "${!#}/bin" && cp "$HOME/vilg" "${!#}/bin/vilg" ;;
esac
"""


@pytest.mark.parametrize(
    ("codes", "states", "ends", "starts", "orders"),
    [
        ("75 137 0", "", 0, 3, 1),  # saved on a signal, killed, finished
        ("134 0", "SUSPENDED", 0, 2, 2),  # the slice was taken away: ordered anew
        ("1 0", "SUSPENDED", 0, 2, 2),  # and so with any error
        ("2 0", "", 2, 1, 1),  # a mistake is not tried again
        ("1 0", "", 1, 1, 1),  # nor a run that fails on a slice that is there
        ("75 75 75 75", "", 75, 3, 1),  # no more than --restarts
    ],
)
def test_a_tpu_vm_run_starts_again_after_preemption_only(
    codes, states, ends, starts, orders, tmp_path
):
    jobs, home, commands = (
        launch(tmp_path / "jobs", "tpu_vm", "--restarts=2"),
        tmp_path / "home",
        tmp_path / "commands",
    )
    home.mkdir()
    stand_in(commands, "gcloud", GCLOUD)
    stand_in(commands, "uv", UV)
    after = f'echo {states} >"$HOME/state"; ' if states else ""
    stand_in(
        home,
        "vilg",
        'echo "$*" >>"$HOME/vilg-calls"\nn=$(wc -l <"$HOME/vilg-calls")\n[ "$n" -gt 1 ] || {'
        f' {after}:; }}\nset -- {codes}\nexit "${{!n}}"\n',
    )
    ended = run(
        jobs / "run.sh",
        commands,
        home,
        PROJECT="p",
        ZONE="z",
        VILG_POLL="0",
        VILG_CLONE=os.getcwd(),
    )
    assert ended.returncode == ends, ended.stderr
    assert (home / "vilg-calls").read_text().splitlines() == [
        "train --config=experiments/ranker.py:tiny --config.training.steps=7"
        " --workdir=gs://bucket/runs/x --flags=tpu_async_gather"
    ] * starts
    calls = (home / "calls").read_text()
    order = (
        "queued-resources create ranker-tiny --accelerator-type=v5litepod-8"
        " --runtime-version=v2-alpha-tpuv5-lite --node-id=ranker-tiny"
    )
    assert (
        calls.count(f"{order} --project=p --zone=z\n") == orders
        and calls.count("queued-resources delete") == orders - 1
    )
    assert (home / "ranker-tiny" / "vilg" / "run" / "launch" / "verb.py").is_file(), (
        "the clone's HEAD was unpacked"
    )


SRUN = """
while [[ $1 == --* ]]; do shift; done
for ((i = 0; i < SLURM_NTASKS; i++)); do
  SLURM_PROCID=$i SLURM_LOCALID=$i SLURM_STEP_NODELIST=127.0.0.1 SLURM_STEP_NUM_NODES=1 "$@" &
  waiting[i]=$!
done
highest=0
for each in "${waiting[@]}"; do
  wait "$each" || { code=$?; ((code > highest)) && highest=$code; }
done
exit "$highest"
"""
SCONTROL = 'echo "$*" >>"$CALLS"\n'


def slurm_commands(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Stand-ins for srun and scontrol, and the variables that sbatch sets; each job has a
    coordinator's port of its own.
    """
    stand_in(tmp_path / "commands", "srun", SRUN)
    stand_in(tmp_path / "commands", "scontrol", SCONTROL)
    job = str(os.getpid() % 4096)
    return tmp_path / "commands", {
        "SLURM_JOB_ID": job,
        "SLURM_NTASKS": "2",
        "CALLS": str(tmp_path / "calls"),
    }


@pytest.mark.parametrize(
    ("codes", "ends", "requeued", "restarts"),
    [
        ("0 0", 0, False, "0"),
        ("75 75", 75, True, "0"),
        ("2 134", 2, False, "0"),
        ("75 137", 137, True, "99"),
        ("1 1", 1, False, "0"),
        ("75 75", 75, False, "100"),
    ],
)
def test_a_batch_job_is_queued_again_after_preemption_only(
    codes, ends, requeued, restarts, tmp_path
):
    script = launch(tmp_path / "jobs", "slurm/cpu") / "train.sbatch"
    commands, variables = slurm_commands(tmp_path)
    stand_in(
        commands,
        "vilg",
        f'set -- {codes}\nset -- x "$@"\ni=$((SLURM_PROCID + 2))\nexit "${{!i}}"\n',
    )
    ended = run(script, commands, tmp_path, **variables, SLURM_RESTART_COUNT=restarts)
    assert ended.returncode == ends, ended.stderr
    assert (tmp_path / "calls").exists() == requeued
    assert (
        not requeued or (tmp_path / "calls").read_text() == f"requeue {variables['SLURM_JOB_ID']}\n"
    )


def test_a_sweep_is_submitted_in_waves(tmp_path):
    jobs = launch(tmp_path / "jobs", "sweep", f"--workdir={tmp_path / 'out'}")
    stand_in(tmp_path / "commands", "sbatch", 'echo "$*" >>"$CALLS"\nwc -l <"$CALLS"\n')
    stand_in(tmp_path / "commands", "srun", 'echo "$*" >>"$CALLS.tasks"\n')
    calls = tmp_path / "calls"
    assert (
        run(jobs / "submit.sh", tmp_path / "commands", tmp_path, CALLS=str(calls)).returncode == 0
    )
    after = "--dependency=afterok:{} --kill-on-invalid-dep=yes"
    assert calls.read_text().splitlines() == [
        f"--parsable --array=0-0%2 {jobs}/sweep.sbatch",
        f"--parsable --array=1-2%2 {after.format(1)} {jobs}/sweep.sbatch",
        f"--parsable --array=3-3%2 {after.format(2)} {jobs}/sweep.sbatch",
        f"{after.format(3)} {jobs}/sweep.sbatch",
    ]
    for task in range(4):
        variables = {
            "SLURM_ARRAY_JOB_ID": "9",
            "SLURM_ARRAY_TASK_ID": str(task),
            "CALLS": str(calls),
        }
        ended = run(jobs / "sweep.sbatch", tmp_path / "commands", tmp_path, **variables)
        assert ended.returncode == 0, ended.stderr
    assert (
        run(
            jobs / "sweep.sbatch",
            tmp_path / "commands",
            tmp_path,
            CALLS=str(calls),
            SLURM_JOB_ID="9",
        ).returncode
        == 0
    )
    command = f"vilg sweep {SWEEP} --out={tmp_path / 'out'} --quiet --flags=gpu_overlap"
    assert (tmp_path / "calls.tasks").read_text().splitlines() == [
        f"{command} --task --cells=dense --seeds=0",  # trains the codec too
        f"{command} --task --cells={CELL} --seeds=0",  # starts from it
        f"{command} --task --cells=dense --seeds=1",
        f"{command} --task --cells={CELL} --seeds=1",
        f"{command} --cells={CELL} --seeds=0,1",
    ]


@pytest.mark.slow
def test_a_batch_job_of_two_processes_trains_what_one_does(tmp_path):
    from vilg.training.log import read_metrics

    small = (
        "--config.training.steps=2",
        "--config.training.log_every=1",
        "--config.training.batch_size=16",
        "--config.generator.image.layers=1",
        "--config.generator.image.width=32",
        "--config.generator.image.heads=2",
        "--config.data.text.records=100",
    )
    script = (
        launch(tmp_path / "jobs", "slurm/cpu", *small, f"--workdir={tmp_path / 'two'}")
        / "train.sbatch"
    )
    commands, variables = slurm_commands(tmp_path)
    for name in ("experiments", "vilg"):
        (tmp_path / name).symlink_to(Path(name).absolute())
    stand_in(commands, "vilg", f'exec {sys.executable} -m vilg "$@"\n')
    variables |= {"XLA_FLAGS": f"--xla_force_host_platform_device_count=1 {UNOPTIMIZED}"}
    ended = run(script, commands, tmp_path, **variables)
    assert ended.returncode == 0 and "finished" in ended.stdout, ended.stderr
    alone = [
        sys.executable,
        "-m",
        "vilg",
        "train",
        CONFIG,
        *small,
        f"--workdir={tmp_path / 'one'}",
        "--quiet",
    ]
    environment = {
        **os.environ,
        "XLA_FLAGS": variables["XLA_FLAGS"].replace("device_count=1", "device_count=2"),
    }
    assert subprocess.run(alone, env=environment, timeout=300).returncode == 0
    two, one = (
        [line["loss"] for line in read_metrics(tmp_path / n / "metrics.jsonl")]
        for n in ("two", "one")
    )
    assert len(two) == 2 and two == pytest.approx(one, rel=1e-4)
    config = (tmp_path / "two" / "config.json").read_text()
    assert '"processes": 2' in config
