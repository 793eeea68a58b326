"""vilg bench: every benchmark measures both sides at small sizes, and mistakes are told before any
work.
"""

import importlib
import inspect
import json

import pytest

from tests.oracles import needs_torch
from vilg.run import cli
from vilg.run.bench import attention, caching, decoding, verb
from vilg.run.bench.schedules import Sizes, schedule_mean
from vilg.run.bench.timing import Seconds, alternate
from vilg.run.bench.verb import BENCHMARKS

SMALL = Sizes(heads=2, head_size=8, text_length=8, grid=(4, 4), layers=4)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_runs_with_or_without_lite(name):
    run = importlib.import_module(BENCHMARKS[name].module).run
    assert next(iter(inspect.signature(run).parameters)) == "lite"
    assert name in cli_help()


def cli_help() -> str:
    return importlib.import_module("vilg.run.bench").__doc__ or ""


def test_attention_is_timed_by_pattern_and_direction():
    rows = attention.measure(SMALL, 1)
    assert len(rows) == 2 * (4 + 1) and {row["benchmark"] for row in rows} == {"attention"}
    for row in rows:
        assert row["speedup"] == pytest.approx(row["dense_seconds"] / row["blockwise_seconds"])
        assert row["blockwise_temp_bytes"] > 0 < row["dense_temp_bytes"]
    mix = rows[4]
    assert mix["pattern"] == "mix"
    mean = schedule_mean(rows[:4], "dense_seconds", SMALL.layers)
    assert mix["dense_seconds"] == pytest.approx(mean)


def test_cached_steps_are_timed_at_three_places_beside_the_dense_pattern():
    rows = decoding.measure(SMALL, 1, steps=2, depth=2)
    assert [row["position"] for row in rows[::5]] == [0, 7, 14]
    for row in rows:
        assert row["cached_step_seconds"] > 0 and row["cached_step_cpu_seconds"] >= 0
        assert row["vs_dense"] == 1 or row["pattern"] != "dense"


def test_cached_decoding_is_timed_beside_the_whole_stream():
    rows = caching.measure(width=16, layers=2, heads=2, text=8, side=4, positions=2)
    assert [row["patterns"] for row in rows] == ["dense", "ernie_vilg"]
    assert all(row["codes"] == 16 and row["uncached_cpu_seconds"] > 0 for row in rows)


def test_calls_alternate_after_a_warm_up_of_each():
    order = []
    times = alternate({n: lambda n=n: order.append(n) for n in "ab"}, 3)
    assert "".join(order) == "ab" + 3 * "ab"
    assert all(isinstance(t, Seconds) and t.wall >= 0 <= t.cpu for t in times.values())


def test_rows_are_printed_and_written(tmp_path, monkeypatch, capsys):
    rows = [{"benchmark": "attention", "speedup": 1.25}]
    monkeypatch.setattr(attention, "run", lambda lite: rows)
    monkeypatch.setattr(verb.os, "sched_setaffinity", lambda *_: None)
    assert cli.main(["bench", "--only=attention", f"--json={tmp_path}/bench.json"]) == 0
    said = capsys.readouterr()
    assert "1.25" in said.out and "vilg bench: attention" in said.err
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["rows"] == rows and report["cores"] == 1 and "jax" in report["versions"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only=attentoin"], "only='attentoin': known benchmarks are attention, caching"),
        (["--cores=0"], "cores=0: this process may use 1 to"),
        (["--json=/proc/nowhere/rows.json"], "/proc/nowhere"),
    ],
)
def test_mistakes_are_one_sentence(options, words, monkeypatch, capsys):
    monkeypatch.setattr(verb.importlib.util, "find_spec", lambda name: True)
    assert cli.main(["bench", *options]) == 2
    assert words in capsys.readouterr().err


def test_a_benchmark_whose_packages_are_missing_says_so(monkeypatch, capsys):
    monkeypatch.setattr(verb.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["bench", "--only=gpt2"]) == 2
    assert "torch and transformers must be installed" in capsys.readouterr().err


@needs_torch
def test_decoding_and_training_are_timed_beside_gpt2():
    gpt2 = importlib.import_module("vilg.run.bench.gpt2")
    decoding_row, training = gpt2.measure(
        width=16, layers=1, heads=2, text=8, side=4, batch=1, repeats=1
    )
    assert decoding_row["codes"] == 16 and training["ours_positions"] == 2 * 24
    assert training["speedup"] == pytest.approx(2 * training["speedup_per_update"])
