"""gs:// for workdirs, checkpoints, data and outputs, through the real clients (gcsfs, TensorStore)
against a stand-in server.
"""

import contextlib
import functools
import json
import threading
import time
from types import SimpleNamespace

import pytest

from tests.cloud_storage import cloud_storage
from tests.conftest import tiny_diffusion, tiny_ranker
from vilg.paths import as_path, copy_tree, joined, local, relative, written_to
from vilg.run import cli
from vilg.run.sweep import verb as sweep
from vilg.training.log import read_metrics
from vilg.types import UserError
from vilg.workdir.lock import leased

pytestmark = pytest.mark.filterwarnings(
    "ignore:Sending a large body:ResourceWarning"
)  # aiohttp, of what gcsfs does


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with cloud_storage() as (store, variables), pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setenv("VILG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield store


def names(store, prefix: str) -> set[str]:
    return {
        name.removeprefix(prefix)
        for bucket, name in store.objects
        if bucket == "bucket" and name.startswith(prefix)
    }


def test_a_run_lives_on_a_store(store, tmp_path, monkeypatch, capsys):
    place = "gs://bucket/runs/one"
    assert (
        cli.main(
            ["data", "synth", "--n=48", "--seed=1", "--split=train", f"--out={tmp_path / 'data'}"]
        )
        == 0
    )
    copy_tree(tmp_path / "data", as_path("gs://bucket/data/train"))

    def train(steps: int, *more: str) -> int:
        data = {"name": "folder", "path": "gs://bucket/data/train"}
        config = tiny_diffusion(
            data__train=data,
            training__steps=steps,
            training__checkpoint_every=3,
            codec=tiny_ranker().codec,
        )
        config.evals = {"losses": {"batches": 1, "batch_size": 8}}
        monkeypatch.setattr(cli, "read_config", lambda _: config)
        return cli.main(["train", "--config=x.py", f"--workdir={place}", "--quiet", *more])

    assert train(3) == 0
    there = names(store, "runs/one/")
    assert {"config.json", "metrics.jsonl", "parameters.txt", "text.model"} <= there and any(
        n.startswith("events.out") for n in there
    )
    assert any(n.startswith("checkpoints/3/") for n in there) and ".lock" not in there
    assert train(5, "--profile=4:4") == 0, "goes on"
    assert [line["step"] for line in read_metrics(f"{place}/metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert any(
        n.startswith("profile/") and n.endswith(".xplane.pb") for n in names(store, "runs/one/")
    )
    assert cli.main(["evaluate", f"--workdir={place}", "--out=gs://bucket/scores/one.json"]) == 0
    assert json.loads(as_path("gs://bucket/scores/one.json").read_text())["protocol"]["step"] == 5
    assert not list(tmp_path.glob("gs:*")), "nothing was written to a local directory of that name"
    assert (
        cli.main(
            [
                "sample",
                f"--workdir={place}",
                "--prompt=a red ring",
                "--steps=2",
                "--out=gs://bucket/samples",
                "--quiet",
            ]
        )
        == 0
    )
    assert names(store, "samples/") == {"00000.png", "grid.png", "samples.jsonl"}
    before = len(store.objects)
    assert train(5) == 0 and len(store.objects) == before, "finished"
    assert cli.main(["compare", f"--workdirs=a={place}", "--out=gs://bucket/compare"]) == 2
    assert (
        "out='gs://bucket/compare': `vilg compare` works in these files" in capsys.readouterr().err
    )


def test_a_checkpoint_that_cannot_be_read_is_set_aside_there_too(store):
    import jax.numpy as jnp

    from vilg.training.checkpoint import Checkpoints

    directory = "gs://bucket/runs/broken/checkpoints"
    with contextlib.closing(Checkpoints(directory)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"w": jnp.full(64, step)}, {"at": step})
    for key in [k for k in store.objects if k[1].startswith("runs/broken/checkpoints/2/state")]:
        store.objects[key] = (b"broken", store.objects[key][1])
    with contextlib.closing(Checkpoints(directory)) as checkpoints:
        state, data = checkpoints.restore({"w": jnp.zeros(64, jnp.int32)})
        assert data == {"at": 1} and int(state["w"][0]) == 1
        assert checkpoints.steps() == [1] and names(store, "runs/broken/checkpoints.unreadable.2/")


def test_a_lease_excludes_and_outlives_a_kill(store):
    directory = as_path("gs://bucket/runs/leased")
    with leased(directory, renewed=0.3, settled=0.05):
        with (
            pytest.raises(UserError, match="another run is writing there"),
            leased(directory, renewed=0.3, settled=0.05),
        ):
            pass
    assert not (directory / ".lock").exists()
    (directory / ".lock").write_text(json.dumps({"holder": "killed", "count": 7}))
    began = time.monotonic()
    with leased(directory, renewed=0.1, settled=0.05):
        assert time.monotonic() - began > 0.4, "waits for it to run out"
    results, ready = [], threading.Barrier(2)

    def race() -> None:
        ready.wait()
        try:
            with leased(directory, renewed=2.0, settled=0.5):
                results.append("holds")
                time.sleep(1)
        except UserError:
            results.append("refused")

    threads = [threading.Thread(target=race) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["holds", "refused"], "one of two that begin at once"


def test_a_sweep_may_be_written_there(store, tmp_path, monkeypatch):
    file = tmp_path / "ablation.py"
    cells = "SEEDS = (0, 1)\nCELLS = {'base': {}, 'odd': {'optimizer.clip': 0.5}}"
    file.write_text(
        f"from tests.conftest import tiny_ranker\n\n{cells}\n\ndef get_config(size=''):\n    return"
        " tiny_ranker()\n"
    )
    as_path("gs://bucket/sweep/base/0").joinpath("metrics.jsonl").write_text(
        '{"step": 2, "loss": 4.0}\n'
    )
    monkeypatch.setattr(sweep, "train", lambda config, workdir, quiet, title: None)
    monkeypatch.setattr(
        sweep,
        "open_session",
        functools.cache(lambda workdir: SimpleNamespace(program=SimpleNamespace(parameters=7))),
    )
    assert cli.main(["sweep", f"--config={file}", "--out=gs://bucket/sweep", "--quiet"]) == 0
    rows = json.loads(as_path("gs://bucket/sweep/sweep.json").read_text())["rows"]
    assert [(row["workdir"], row["metrics"]) for row in rows][0] == (
        "base/0",
        {"training/loss": 4.0},
    ) and len(rows) == 4
    assert len(store.objects["bucket", "sweep/sweep.png"][0]) > 1000


def test_copies_follow_what_is_there_and_outputs_survive_errors(store, tmp_path):
    from vilg import paths

    as_path("gs://bucket/in/a/b.txt").write_text("one")
    assert (local("gs://bucket/in") / "a" / "b.txt").read_text() == "one"
    as_path("gs://bucket/in/a/b.txt").write_text("longer")
    paths._copied.cache_clear()
    assert (local("gs://bucket/in") / "a" / "b.txt").read_text() == "longer"
    assert not local("gs://bucket/nothing").exists() and local(tmp_path) == tmp_path
    with pytest.raises(ZeroDivisionError), written_to("gs://bucket/made/x") as here:
        (here / "deep").mkdir(parents=True)
        (here / "deep" / "y").write_text("kept")
        _ = 1 / 0
    assert as_path("gs://bucket/made/x/deep/y").read_text() == "kept"
    with pytest.raises(UserError, match="path='s3://b': must be local or begin with gs://"):
        as_path("s3://b")


def test_places_move_together_where_they_can(tmp_path):
    for place, base, told in (
        ("gs://b/runs/codec", "gs://b/runs/x", "../codec"),
        ("gs://other/codec", "gs://b/runs/x", "gs://other/codec"),
        ("gs://b/codec", str(tmp_path), "gs://b/codec"),
        (str(tmp_path / "codec"), "gs://b/runs/x", str(tmp_path / "codec")),
        (str(tmp_path / "codec"), str(tmp_path / "x"), "../codec"),
    ):
        assert relative(place, base) == told and joined(base, told) == place
