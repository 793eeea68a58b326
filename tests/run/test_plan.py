"""vilg plan on fake devices: the contract of its JSON, ranks, what is kept, and what is said of
layouts that do not fit.
"""

import gzip
import json
import os
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import pytest

from tests.conftest import tiny_config, tiny_diffusion
from vilg.planning import row as plan_row
from vilg.planning.advice import first_that_fits, remedy
from vilg.planning.chips import GIB
from vilg.planning.compilation import Compiled, assigned_bytes, compile_kept, out_of_memory
from vilg.planning.row import Task, empty_row, row_of
from vilg.report.plans import write_plan
from vilg.run import cli
from vilg.run.plan import processes
from vilg.run.plan import verb as plan
from vilg.run.plan.table import ranked
from vilg.types import UserError

CPU = Task({"training": {"batch_size": 16}}, "cpu:8")
KEYS = {
    "rank",
    "layout",
    "topology",
    "program",
    "devices",
    "mesh",
    "batch",
    "status",
    "error",
    "hbm_bytes",
    "hbm_limit_bytes",
    "hbm",
    "host_bytes",
    "flops_per_device",
    "model_flops_per_device",
    "collective_bytes",
    "collectives",
    "estimated_step_seconds",
    "mfu",
    "estimated_mfu",
    "tokens_per_second_per_chip",
    "sharded_fraction",
    "bound_by",
    "compile_seconds",
    "warnings",
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A row each of dp, fsdp and a layout whose mesh does not fit; the plans are kept in a
    directory of their own.
    """
    config = tiny_config(generator__width=64, generator__heads=8).to_dict()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VILG_CACHE", str(tmp_path_factory.mktemp("cache")))
        hlo = str(tmp_path_factory.mktemp("hlo"))
        made = [
            row_of(Task(config, "cpu:8", hlo=hlo), layout)
            for layout in ("dp", "fsdp", "fsdp_tp:model=3")
        ]
        again = row_of(Task(config, "cpu:8"), "fsdp")
    return made, again, hlo


def test_rows_hold_what_the_contract_says(rows):
    for row in rows[0]:
        assert (
            KEYS <= set(row)
            and row["topology"] == "cpu:8"
            and row["devices"] == 8
            and row["batch"] == 16
        )
        json.dumps(row)
    plain, sharded, failed = rows[0]
    assert plain["status"] == sharded["status"] == "fits", (plain["error"], sharded["error"])
    assert failed["status"] == "error" and "does not fit 8 device" in failed["error"]
    assert (
        plain["mesh"] == {"data": 8}
        and plain["sharded_fraction"] == 0 < 0.7 < sharded["sharded_fraction"]
    )
    assert (
        set(plain["collectives"]["data"]) == {"all-reduce"}
        and "all-gather" in sharded["collectives"]["data"]
    )
    assert set(plain["hbm"]) == {"parameters", "optimizer", "activations", "temporaries", "rest"}
    assert sum(plain["hbm"].values()) == pytest.approx(plain["hbm_bytes"])
    whole, share = plain["hbm"]["parameters"], sharded["sharded_fraction"]
    assert sharded["hbm"]["parameters"] == pytest.approx(whole * (1 - share + share / 8), rel=1e-3)
    assert plain["flops_per_device"] >= 0.9 * plain["model_flops_per_device"] > 0
    assert (
        0 < plain["mfu"]["serial"] <= plain["mfu"]["likely"] <= plain["mfu"]["best"]
        and plain["estimated_mfu"] == plain["mfu"]["likely"]
    )
    assert plain["largest_buffers"][0]["bytes"] >= plain["largest_buffers"][-1]["bytes"] > 0


def test_a_sampling_step_is_planned(monkeypatch, tmp_path):
    """One evaluation of the denoiser, both halves of guidance, nothing but parameters in memory; a
    picture takes as many as there are steps.
    """
    monkeypatch.setenv("VILG_CACHE", str(tmp_path))
    config = tiny_diffusion().to_dict()
    row = row_of(Task(config, "cpu:8", "sample"), "dp")
    assert row["status"] == "fits" and row["program"] == "sample", row["error"]
    assert (
        row["hbm"]["optimizer"] == 0 < row["hbm"]["parameters"]
        and row["tokens_per_second_per_chip"] is None
    )
    assert row["model_flops_per_device"] == pytest.approx(row["flops_per_device"], rel=0.25)
    steps = config["evals"]["scenes"]["steps"]
    assert row["images_per_second_per_chip"] == pytest.approx(
        16 / steps / row["estimated_step_seconds"] / 8
    )
    codec = row_of(Task(config["codec"]["experiment"], "cpu:8", "sample"), "dp")
    assert codec["status"] == "error" and "needs an experiment with a generator" in codec["error"]


def test_what_does_not_fit_is_told_what_would():
    """The first of the options, in the order of what they cost, that the compiler takes; what the
    layout cannot share out is passed over.
    """
    config = {
        "training": {"batch_size": 16, "accumulation": 1},
        "generator": {"remat": "none", "text": {"remat": "none"}},
    }

    def needs(changed):
        rows, remat = (
            changed["training"]["batch_size"] / changed["training"]["accumulation"],
            changed["generator"]["text"]["remat"],
        )
        assert changed["generator"]["remat"] == remat
        if rows == 4 and remat == "none":
            raise UserError("cannot be shared out")
        return rows * (2 if remat == "none" else 1)

    found = first_that_fits(config, "train", needs, 8.5)
    assert found["would_fit"] == {"generator.*.remat": "full", "training.accumulation": 2}
    assert [t["needs"] for t in found["tried"]] == [16, 16, 8]
    assert first_that_fits(config, "train", needs, 8.0)["tried"][-1] == {
        "options": found["would_fit"],
        "needs": 8,
    }
    assert config["generator"]["remat"] == "none"
    nothing = first_that_fits(config, "train", needs, 0.5)
    assert nothing["would_fit"] is None and min(t["needs"] for t in nothing["tried"]) == 1
    assert "generator.[...].remat=full training.accumulation=2, or under fsdp" in remedy(
        found, "fsdp"
    )
    assert (
        "take more chips" in remedy(nothing, "")
        and "fsdp fits" in remedy(nothing, "fsdp")
        and "more chips" in remedy({}, "")
    )
    fewer = first_that_fits(config, "sample", lambda c: float(c["training"]["batch_size"]), 4.0)
    assert fewer["would_fit"] == {"training.batch_size": 4}


def test_a_layout_that_does_not_fit_is_advised_in_its_row(monkeypatch):
    verdicts = iter(
        [{"needs": 3.0, "has": 2.0}, {"needs": 2.5, "has": 2.0}, {"needs": 1.0, "has": 2.0}]
    )

    def compiled(task, config, layout):
        program, planned = (
            types.SimpleNamespace(sizes={}, sharded_fraction=0.0),
            types.SimpleNamespace(model_flops=1.0),
        )
        return program, planned, Compiled(oom=next(verdicts))

    monkeypatch.setattr(plan_row, "compile_layout", compiled)
    task = Task({"training": {"batch_size": 16, "accumulation": 1}, "generator": {}}, "cpu:8")
    row = row_of(task, "dp")
    assert (
        row["status"] == "oom"
        and row["would_fit"] == {"training.accumulation": 4}
        and len(row["tried"]) == 2
    )


def test_the_page_shows_every_layout(tmp_path):
    fits = dict(
        status="fits",
        estimated_step_seconds=0.5,
        hbm_bytes=GIB,
        hbm_limit_bytes=2 * GIB,
        host_bytes=0,
        bound_by="compute",
    )
    fits |= dict(
        hbm=dict(
            parameters=0.5 * GIB,
            optimizer=0.25 * GIB,
            activations=0.125 * GIB,
            temporaries=0.0,
            rest=0.125 * GIB,
        ),
        estimated_mfu=0.5,
    )
    fits |= dict(
        mfu=dict(best=0.6, likely=0.5, serial=0.4),
        seconds=dict(compute=0.25, memory=0.4, asynchronous=0.1, synchronous=0.1, host=0.0),
    )
    fits |= dict(
        images_per_second_per_chip=3.0,
        mesh={"data": 8},
        collectives={"data": {"all-reduce": {"bytes": 5e9, "count": 2.0}}},
    )
    task = Task({"training": {"batch_size": 16}}, "v5p:2x2x1")
    large = empty_row("large", task) | {"status": "oom", "hbm_bytes": 9.0 * GIB}
    rows = ranked(
        [empty_row("good", task) | fits, large, empty_row("broken", task) | {"error": "<why>"}]
    )
    report = {"rows": rows, "versions": {"jax": "0"}, "assumptions": ["one"], "config_hash": "x"}
    report["estimator_error"] = [
        dict(
            generation="v5p",
            configuration="a known model",
            flags="some_flags",
            published=0.5,
            estimated=0.45,
            error=-0.1,
        )
    ]
    write_plan(
        tmp_path / "plan.html", report, "experiments/x.py:tiny", ["", "it fits with more", ""]
    )
    page = (tmp_path / "plan.html").read_text()
    shown = (
        "500.0 ms",
        "width:80.00%",
        "width:20.00%",
        "it fits with more",
        "&lt;why&gt;",
        "all-reduce",
        "MFU 0.500",
        "width:100.00%",
    )
    for words in (*shown, "a known model, compiled with some_flags, is off by -10.0 %"):
        assert words in page, words
    assert "http" not in page and "<h2>v5p:2x2x1" not in page
    other = [row | {"topology": "v5e:4x4"} for row in rows]
    write_plan(
        tmp_path / "plan.html",
        report | {"rows": [*rows, *other]},
        "experiments/x.py:tiny",
        [""] * 6,
    )
    page = (tmp_path / "plan.html").read_text()
    assert (
        page.count("500.0 ms a step") == 2
        and all(f"<h2>{name}" in page for name in ("v5p:2x2x1", "v5e:4x4"))
        and "on 2 topologies" in page
    )


def test_a_compiled_result_is_kept_by_content(rows):
    made, again, _ = rows
    assert (
        again["cached"] and not made[1]["cached"] and again["collectives"] == made[1]["collectives"]
    )


def test_the_optimized_program_is_kept_where_asked(rows):
    from pathlib import Path

    files = {path.name: path.read_text() for path in Path(rows[2]).iterdir()}
    assert set(files) == {"dp.txt", "fsdp.txt"} and all("ENTRY" in text for text in files.values())


def test_rows_are_ranked_by_step_then_bytes_then_failure():
    def row(layout, **fields):
        return empty_row(layout, CPU) | fields

    rows = [
        row("broken"),
        row("slow", status="fits", estimated_step_seconds=2.0),
        row("huge", status="oom", hbm_bytes=9.0),
        row("fast", status="fits", estimated_step_seconds=1.0),
        row("large", status="oom", hbm_bytes=5.0),
    ]
    assert [(r["rank"], r["layout"]) for r in ranked(rows)] == [
        (1, "fast"),
        (2, "slow"),
        (3, "large"),
        (4, "huge"),
        (5, "broken"),
    ]


def test_a_compilers_refusal_is_a_verdict():
    said = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space"
        " hbm. Used 34.21G of 15.75G hbm. Exceeded"
    )
    assert out_of_memory(said) == {"needs": 34.21 * GIB, "has": 15.75 * GIB}
    assert out_of_memory("it requires (34.21G) exceeds available HBM (15.75G)") == {
        "needs": 34.21 * GIB,
        "has": 15.75 * GIB,
    }
    assert out_of_memory("Mosaic failed") is None


def test_main_memory_is_what_the_compilers_own_report_says(tmp_path):
    report = tmp_path / "x.after_optimizations-memory-usage-report.txt"
    assert assigned_bytes(report) is None
    report.write_text("Memory Space: vmem (color=1)\nTotal bytes: 7 (7B)\n")
    assert assigned_bytes(report) is None
    report.write_text(
        "Memory Space: default (color=0)\nTotal bytes: 1099041888 (1.02GiB)\n  x\n\nMemory Space:"
        " vmem\nTotal bytes: 7 (7B)\n"
    )
    assert assigned_bytes(report) == 1099041888


def test_the_verb_prints_a_table_and_exits_by_what_fits(tmp_path, capsys, monkeypatch):
    made = {
        "dp": dict(
            status="fits",
            estimated_step_seconds=1.0,
            hbm_bytes=GIB,
            flops_per_device=1e12,
            collective_bytes={"data": 3e9},
        )
    }
    monkeypatch.setattr(
        plan,
        "compile_all",
        lambda task, layouts, *_: [
            empty_row(n, CPU) | made.get(n, {"error": "broken"}) for n in layouts
        ],
    )
    argv = [
        "plan",
        "--config=experiments/ernie_vilg.py:tiny",
        "--topology=cpu:8",
        f"--json={tmp_path}/plan.json",
    ]
    monkeypatch.setattr(
        plan,
        "write_plan",
        lambda path, report, config, remedies: Path(path).write_text(f"{config} {remedies}"),
    )
    made["zero1"] = dict(
        status="oom", hbm_bytes=2 * GIB, hbm_limit_bytes=GIB, would_fit={"training.accumulation": 2}
    )
    assert cli.main([*argv, "--layouts=dp,tp,zero1", f"--html={tmp_path}/plan.html"]) == 0
    assert (tmp_path / "plan.html").read_text().count(
        "it fits with training.accumulation=2, or under dp"
    ) == 1
    out = capsys.readouterr().out
    assert re.search(r"dp .* 1\.00 .* 1 .* 3 ", out) and "tp: broken" in out
    report = json.loads((tmp_path / "plan.json").read_text())
    assert (
        set(report)
        == {"rows", "versions", "assumptions", "estimator_error", "config", "config_hash", "flags"}
        and len(report["assumptions"]) > 3
    )
    assert cli.main([*argv, "--layouts=tp"]) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--topology=v9:2x2"], "topology='v9': known names are"),
        (["--topology=v5p:4x4x4x4"], "write it as v5p:4x4x4"),
        (["--topology=cpu:8", "--layouts=dq"], "known layouts are dp"),
        (["--topology=cpu:8", "--program=eat"], "program='eat': known names are 'train', 'sample'"),
        (["--topology=cpu:8", "--batch=0"], "training.batch_size=0: must be at least 1"),
        (["--topology=cpu:8", "--jobs=-1"], "jobs=-1: give how many"),
        (["--topology=cpu:8", "--hlo=/proc/nowhere"], "/proc/nowhere"),
        (["--topology=cpu:8,slices=2"], "fake devices are of one slice; write cpu:8"),
    ],
)
def test_mistakes_are_one_sentence(options, words, capsys):
    assert cli.main(["plan", "--config=experiments/ernie_vilg.py:tiny", *options]) == 2
    assert words in capsys.readouterr().err


def test_a_plan_of_which_every_layout_was_refused_for_what_was_asked_exits_with_2(
    rows, monkeypatch
):
    *_, refused = rows[0]
    assert refused["mistake"] and not any(row["mistake"] for row in rows[0][:-1])
    monkeypatch.setattr(plan, "compile_all", lambda *_: [refused])
    assert (
        cli.main(
            [
                "plan",
                "--config=experiments/ernie_vilg.py:tiny",
                "--topology=cpu:8",
                "--layouts=fsdp_tp:model=3",
            ]
        )
        == 2
    )


def test_a_row_that_fails_after_it_was_compiled_does_not_fit(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    program, planned = (
        types.SimpleNamespace(sizes={}, sharded_fraction=0.0),
        types.SimpleNamespace(model_flops=0),
    )
    monkeypatch.setattr(plan_row, "compile_layout", lambda *_: (program, planned, Compiled()))
    monkeypatch.setattr(plan_row, "measures", lambda *_: {"status": "fits"})
    row = row_of(Task(CPU.config, "cpu:8", hlo=str(tmp_path / "file" / "below")), "dp")
    assert row["status"] == "error" and "NotADirectoryError" in row["error"]


def test_a_failure_that_says_nothing_is_a_row(monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(plan_row, "compile_layout", full)
    assert row_of(CPU, "dp")["error"] == "MemoryError"


@pytest.mark.parametrize(
    "there",
    [b"", b"not gzip", gzip.compress(b"{}" * 400)[:-9], gzip.compress(b"{")],
    ids=["empty", "other", "cut", "no JSON"],  # compressed bytes hold the time of compression
)
def test_what_is_kept_and_damaged_is_compiled_again(there, tmp_path):
    place = tmp_path / "plan.json.gz"
    place.write_bytes(there)
    lowered = jax.jit(lambda x: x + 1).lower(1.0)
    assert (
        not compile_kept(lowered, place, False).cached
        and compile_kept(lowered, place, False).cached
    )


def test_what_cannot_be_kept_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    found = compile_kept(
        jax.jit(lambda x: x + 1).lower(1.0), tmp_path / "file" / "plan.json.gz", False
    )
    assert "ENTRY" in found.text and re.search("is not kept: .*VILG_CACHE", found.warnings[-1])


def one_of_which_dies(task, layout):
    """Stands for row_of in the children."""
    return os._exit(1) if layout == "dp" else empty_row(layout, task) | {"status": "fits"}


def test_a_compiler_that_dies_is_one_row(monkeypatch):
    monkeypatch.setattr(processes, "row_of", one_of_which_dies)
    rows = {row["layout"]: row for row in processes.compile_all(CPU, ("dp", "fsdp", "zero2"), 1)}
    assert (
        "process died" in rows["dp"]["error"]
        and rows["fsdp"]["status"] == rows["zero2"]["status"] == "fits"
    )


def test_programs_of_several_topologies_lie_apart(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        plan,
        "compile_all",
        lambda task, layouts, *_: asked.append(task.hlo) or [empty_row(n, CPU) for n in layouts],
    )
    argv = [
        "plan",
        "--config=experiments/ernie_vilg.py:tiny",
        "--layouts=dp",
        f"--hlo={tmp_path}",
        "--topology=cpu:8",
    ]
    assert cli.main(argv) == 1 and cli.main([*argv, "--topology=cpu:4"]) == 1
    assert asked == [str(tmp_path), str(tmp_path / "cpu_8"), str(tmp_path / "cpu_4")]


def test_no_compilation_outlives_a_killed_command(tmp_path):
    """The child of a pool says who it is, then compiles for ever; its parent is killed."""
    (tmp_path / "endless.py").write_text(
        "import concurrent.futures, multiprocessing, os, time\nfrom vilg.run.plan.processes"
        f" import end_with_parent\ndef forever():\n    open({str(tmp_path / 'pid')!r},"
        " 'w').write(f'{os.getpid()} ')\n    time.sleep(600)\nif __name__ == '__main__':\n   "
        " context = multiprocessing.get_context('spawn')\n   "
        " concurrent.futures.ProcessPoolExecutor(1, mp_context=context,"
        " initializer=end_with_parent).submit(forever).result()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "endless.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    try:
        assert within(
            60, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith(" ")
        )
        child = int((tmp_path / "pid").read_text())
    finally:
        parent.kill()
        parent.wait()
    assert within(20, lambda: not runs(child))


def within(seconds, condition):
    """Whether the condition comes to hold in so many seconds; waits for it."""
    end = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return holds


def runs(process):
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
