"""The controls of `vilg compare`, trained: what is the same must come out the same, and what cannot
know the caption must lose. Ten minutes.
"""

import json

import pytest

from tests.conftest import changed
from vilg.experiment_file import load_config, load_file
from vilg.run import cli
from vilg.workdir.training import train

pytestmark = pytest.mark.slow


def test_another_seed_is_no_better_and_captions_of_strangers_are_worse(tmp_path):
    path = "experiments/ablations/noise.py"
    unet = {k.replace(".", "__"): v for k, v in load_file(path).CELLS["unet"].items()}
    base = changed(
        load_config(path),
        unet | {"codec__workdir": str(tmp_path / "codec"), "evals__scenes__n": 128},
    )
    train(base.codec.experiment, tmp_path / "codec", quiet=True)
    contenders = {
        "own": {},
        "again": {"seed": 1, "data__loader__seed": 1},
        "shuffled": {"data__loader__shuffle_captions": True},
    }
    for name, changes in contenders.items():
        train(changed(base.copy_and_resolve_references(), changes), tmp_path / name, quiet=True)
    given = ",".join(f"{name}={tmp_path / name}" for name in contenders)
    assert cli.main(["compare", f"--workdirs={given}", f"--out={tmp_path / 'out'}", "--quiet"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    rows = [
        r
        for r in report["comparisons"]
        if r["what"] == "single_object" and r["language"] == "all" and not r["part"]
    ]
    found = {(r["a"], r["b"]): r for r in rows}
    assert found["own", "again"]["verdict"] == "no significant difference", found["own", "again"]
    for name in ("own", "again"):
        assert (
            found[name, "shuffled"]["verdict"] == "better"
            and found[name, "shuffled"]["score_b"] < 0.1
        ), found[name, "shuffled"]
