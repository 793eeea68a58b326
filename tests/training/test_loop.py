"""The loop with a made-up update: what it logs, saves, and refuses."""

import os
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from vilg.training.checkpoint import Checkpoints
from vilg.training.log import RunLog, cut_torn_line, read_metrics
from vilg.training.loop import Periodic, train
from vilg.training.state import TrainState
from vilg.types import Diverged, Preempted


class Numbers:
    """Batches 0, 1, 2, ... with ids."""

    def __init__(self):
        self.step = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.step += 1
        return {"x": np.float32(self.step), "ids": [f"record{self.step}"]}

    def get_state(self):
        return {"step": self.step}


def start() -> TrainState:
    return TrainState(jnp.int32(0), {"w": jnp.float32(0)}, {}, None, None)


def update(state, batch):
    loss = jnp.where(batch["x"] == state.params["w"], jnp.nan, batch["x"])
    return state.replace(step=state.step + 1), {"loss": loss, "gradient_norm": jnp.float32(1)}


def go(tmp_path, state=None, steps=7, periodic=(), call=update, log_every=2):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_last=9)
    log = RunLog(tmp_path, steps, 0, 1, quiet=True)
    try:
        return train(
            state or start(),
            call,
            Numbers(),
            lambda b: {"x": b["x"]},
            checkpoints,
            log,
            steps=steps,
            log_every=log_every,
            checkpoint_every=3,
            periodic=periodic,
        )
    finally:
        checkpoints.close()
        log.close()


def test_a_line_holds_that_steps_own_loss(tmp_path):
    assert int(go(tmp_path).step) == 7
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 4, 6, 7]
    assert [line["loss"] for line in lines] == [1, 2, 4, 6, 7]
    assert all(
        set(line) == {"step", "time", "loss", "gradient_norm", "step_seconds"} for line in lines
    )
    assert Checkpoints(tmp_path / "checkpoints").steps() == [3, 6, 7]


def test_periodic_numbers_join_their_steps_line(tmp_path):
    seen = []
    go(
        tmp_path,
        periodic=[
            Periodic(3, "valid/", lambda state, step: seen.append(step) or {"loss": 10.0 + step})
        ],
    )
    assert seen == [3, 6, 7]
    lines = {line["step"]: line for line in read_metrics(tmp_path / "metrics.jsonl")}
    assert lines[3]["loss"] == 3 and lines[3]["valid/loss"] == 13
    text = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(text) == len(lines), "a step has one line"


def test_nan_stops_the_run_with_step_ids_and_the_last_good_checkpoint(tmp_path):
    state = start().replace(params={"w": jnp.float32(5)})
    with pytest.raises(Diverged, match=r"step 5; last good checkpoint: 3; batch ids: record5"):
        go(tmp_path, state)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [3]


def test_a_nan_at_a_checkpoint_step_is_not_saved(tmp_path):
    with pytest.raises(Diverged, match="step 6"):
        go(
            tmp_path,
            start().replace(params={"w": jnp.float32(6)}),
            periodic=[Periodic(6, "", lambda s, k: pytest.fail("evaluated NaN"))],
        )
    assert Checkpoints(tmp_path / "checkpoints").steps() == [3]


def test_a_signal_saves_and_says_so(tmp_path):
    def interrupted(state, batch):
        if int(batch["x"]) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(state, batch)

    with pytest.raises(Preempted, match="after step 4"):
        go(tmp_path, call=interrupted)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [3, 4]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_trained_is_kept_when_an_evaluator_fails(tmp_path, error):
    def fails(state, step):
        raise error

    with pytest.raises(error):
        go(tmp_path, periodic=[Periodic(6, "", fails)])
    assert Checkpoints(tmp_path / "checkpoints").steps() == [3, 6]
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 4, 6]


def test_a_torn_last_line_is_mended_and_the_last_line_of_a_step_counts(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 2.0}\n{"step": 2, "loss": 2.5}\n{"step":'
        ' 3, "lo'
    )
    cut_torn_line(path)
    assert path.read_text().endswith("2.5}\n")
    assert [line["loss"] for line in read_metrics(path)] == [1.0, 2.5]
