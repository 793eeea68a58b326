"""Plans that were compiled for TPUs and kept as goldens: what of them needs no compiler is made
again on as many fake devices.

A golden is what `vilg plan --config=experiments/FILE:SIZE --topology=...
--json=tests/goldens/plans/NAME.json` wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GOLDENS = sorted(Path("tests/goldens/plans").glob("*.json"))
AGAIN = """
import json, sys
import jax
from vilg.experiment import build_experiment
from vilg.experiment_file import load_config
from vilg.program import Program
from vilg.planning.programs import PROGRAMS
from vilg.planning.measures import bytes_of

found = []
for row in json.loads(sys.argv[2]):
    config = load_config(sys.argv[1])
    config.layout.name, config.training.batch_size = row["layout"], row["batch"]
    program = Program(build_experiment(config), jax.devices()[: row["devices"]])
    planned = PROGRAMS[row["program"]](program)
    found.append(
        {
            "mesh": program.sizes,
            "sharded_fraction": program.sharded_fraction,
            "parameters": bytes_of(planned.params),
            "optimizer": bytes_of(planned.other_state),
            "model_flops_per_device": planned.model_flops / row["devices"],
        }
    )
print(json.dumps(found))
"""


def test_there_is_a_golden_of_the_24b_model():
    assert any(
        json.loads(file.read_text())["config"].endswith("ernie_vilg2.py:paper") for file in GOLDENS
    )


@pytest.mark.parametrize("file", GOLDENS, ids=lambda f: f.stem)
def test_a_plan_holds_what_was_reviewed(file):
    report = json.loads(file.read_text())
    rows = [row for row in report["rows"] if row["status"] == "fits"]
    assert rows
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={rows[0]['devices']}",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, report["config"], json.dumps(rows)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for row, again in zip(rows, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert again["mesh"] == row["mesh"] and again["sharded_fraction"] == pytest.approx(
            row["sharded_fraction"]
        )
        assert (
            again["parameters"] == row["hbm"]["parameters"]
            and again["optimizer"] == row["hbm"]["optimizer"]
        )
        assert again["model_flops_per_device"] == pytest.approx(
            row["model_flops_per_device"], rel=1e-6
        )
        assert row["hbm_bytes"] <= row["hbm_limit_bytes"]
