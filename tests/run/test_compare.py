"""vilg compare: two finished runs to one report and page; budgets; what it refuses; who wins, on
stored scores.
"""

import json
import shutil

import numpy as np
import pytest

from tests.conftest import tiny_diffusion
from vilg.experiment import build_experiment
from vilg.program import Program
from vilg.run import cli
from vilg.run.compare.budget import steps_within
from vilg.run.compare.pairs import pairs, summary
from vilg.run.compare.protocol import same_protocol
from vilg.run.compare.runs import Run
from vilg.types import UserError

SCENES = dict(n=4, captions=False, cells=["single_object", "two_objects"])


@pytest.fixture(scope="module")
def workdirs(run, diffusion_run, codec_run, tmp_path_factory):
    """Both fixture runs with an evaluator of the same scenes."""
    out = tmp_path_factory.mktemp("compared")
    for name, source, own in (
        ("ar", run, dict(guidance=1.0)),
        ("diffusion", diffusion_run, dict(steps=2)),
    ):
        shutil.copytree(source, out / name, ignore=shutil.ignore_patterns("codec"))
        stored = json.loads((out / name / "config.json").read_text())
        stored["config"]["codec"]["workdir"] = str(codec_run)
        stored["config"]["evals"] = {"scenes": SCENES | own}
        (out / name / "config.json").write_text(json.dumps(stored))
    return out


def compare(workdirs, out, names="ar,diffusion"):
    given = ",".join(f"{name}={workdirs / name}" for name in names.split(","))
    return cli.main(["compare", f"--workdirs={given}", f"--out={out}", "--quiet"])


def test_two_runs_become_a_report(workdirs, tmp_path, capsys):
    assert compare(workdirs, tmp_path) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    page = (tmp_path / "index.html").read_text()
    assert "<html" in page and "http://" not in page and "NaN" not in page
    assert set(report["metrics"]) == {"ar", "diffusion"} and "raw" in report["metrics"]["ar"]
    assert {(r["what"], r["part"], r["language"]) for r in report["comparisons"]} >= {
        ("single_object", "", "all"),
        ("two_objects", "", "zh"),
        ("two_objects", "relation", "all"),
    }
    assert not {r["what"] for r in report["comparisons"] if r["part"]} - {"two_objects"}
    for name in ("ar", "diffusion"):
        training, points = report["training"][name], report["curves"]["training"][name]
        assert training["flops"] == pytest.approx(
            training["updates"] * training["traced_flops_an_update"]
        )
        assert training["compiled_flops_an_update"] == pytest.approx(
            training["traced_flops_an_update"], rel=0.05
        )
        assert (
            points[-1]["flops"] == pytest.approx(training["flops"])
            and points[-1]["images"] == training["images"]
        )
    sampling = {name: report["curves"]["sampling"][name][0] for name in report["metrics"]}
    assert (
        sampling["diffusion"]["evaluations"] == 2 * 3
        or sampling["diffusion"]["evaluations"] == 2 * 2
    )
    assert sampling["ar"]["evaluations"] == 64 and all(
        s["flops"] > 0 and s["image_seconds"] > 0 for s in sampling.values()
    )
    shown = {name: [line["prompt"] for line in lines] for name, lines in report["grid"].items()}
    assert shown["ar"] == shown["diffusion"] and len(shown["ar"]) == 2 * SCENES["n"]
    assert set(report["protocol"]["unmatched"]) <= {"text model"}
    before = {k: report[k] for k in ("metrics", "comparisons", "ceiling")}
    (
        tmp_path / "measured" / f"{min(p.stem for p in (tmp_path / 'measured').iterdir())}.json"
    ).unlink()  # one of them is made anew
    assert compare(workdirs, tmp_path) == 0
    again = json.loads((tmp_path / "report.json").read_text())
    assert {k: again[k] for k in before} == before


def test_protocols_that_differ_are_refused(workdirs, tmp_path, capsys):
    """Nothing is measured then: the sentence names the field and both values."""
    shutil.copytree(workdirs / "diffusion", tmp_path / "other")
    stored = json.loads((tmp_path / "other" / "config.json").read_text())
    stored["config"]["evals"]["scenes"]["split"] = "test"
    (tmp_path / "other" / "config.json").write_text(json.dumps(stored))
    shutil.copytree(workdirs / "ar", tmp_path / "ar")
    assert compare(tmp_path, tmp_path / "out", "ar,other") == 2
    said = capsys.readouterr().err
    assert (
        "protocols differ: evals.scenes.split is 'valid' in ar and 'test' in other" in said
        and not (tmp_path / "out").exists()
    )


def test_data_that_differ_are_refused(tmp_path):
    runs = [
        Run(
            name,
            0,
            build_experiment(tiny_diffusion(data__valid__snap=snap, data__train__snap=snap)),
            tmp_path,
        )
        for name, snap in (("a", 0), ("b", 4))
    ]
    with pytest.raises(UserError, match=r"data\.train\.snap is 0 in a and 4 in b"):
        same_protocol(runs)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "either --config"),
        (["--workdirs=nowhere"], "holds no config.json"),
        (
            ["--config=experiments/compare_quickstart.py:smoke", "--budget=hours:3"],
            "must be KIND:AMOUNT",
        ),
        (
            ["--config=experiments/compare_quickstart.py:smoke", "--budget=images:1"],
            "too little for an update",
        ),
        (["--config=experiments/ernie_vilg.py:tiny", "--budget=images:64"], "at least two"),
    ],
)
def test_mistakes_are_one_sentence(given, said, tmp_path, capsys):
    assert cli.main(["compare", f"--out={tmp_path / 'out'}", *given]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_budgets(tmp_path):
    """The realised FLOPs are within 1 % of what was asked, whatever an update costs; images are
    images.
    """
    for config in (tiny_diffusion(),):
        experiment = build_experiment(config)
        update = Program(experiment).update_flops
        steps = steps_within(experiment, f"flops:{137.3 * update}", tmp_path / "budget.json", "x")
        assert steps == 137
        for amount, said in ((0.3 * update, "too little"), (1.4 * update, "to 0.714 only")):
            with pytest.raises(UserError, match=said):
                steps_within(experiment, f"flops:{amount}", tmp_path / "budget.json", "x")
        assert steps_within(experiment, "images:1600", tmp_path / "budget.json", "x") == 100
        assert (
            steps_within(experiment, "", tmp_path / "budget.json", "x") == experiment.training.steps
        )


def results(rate: float, seeds: int, seed: int) -> list[dict]:
    """Stored scores of a contender that is right so often."""
    rng = np.random.default_rng(seed)
    columns = {"language": ["zh", "en"] * 64, "prompt": [f"prompt {k}" for k in range(128)]}
    made = []
    for _ in range(seeds):
        right = (rng.random(128) < rate).tolist()
        made.append(
            {"trials": {"two_objects": columns | {"score": right, "parts": {"colour": right}}}}
        )
    return made


@pytest.mark.parametrize("seeds", [1, 3])
def test_controls(seeds):
    """The same config from another seed: no significant difference. Captions of strangers:
    worse.
    """
    found = {
        r["b"]: r
        for r in pairs(
            {
                "own": results(0.7, seeds, 1),
                "again": results(0.7, seeds, 2),
                "shuffled": results(0.05, seeds, 3),
            }
        )
        if r["a"] == "own"
    }
    assert found["again"]["verdict"] == "no significant difference"
    assert found["shuffled"]["verdict"] == "better" and found["shuffled"]["p_holm"] < 0.01
    assert found["again"]["seeds"] == seeds and (found["again"]["interval_seeds"] is None) == (
        seeds == 1
    )


def test_other_prompts_are_refused():
    other = results(0.5, 1, 4)
    other[0]["trials"]["two_objects"]["prompt"][3] = "something else"
    with pytest.raises(UserError, match="different prompts in two_objects"):
        pairs({"a": results(0.5, 1, 1), "b": other})


def test_prompts_that_cannot_be_told_are_left_out():
    """In one run of one side is enough; cosines are no shares, and a cell that nobody could tell is
    no row.
    """
    made = {name: results(0.5, 2, seed) for name, seed in (("a", 1), ("b", 2))}
    for name, shift in (("a", 0.1), ("b", 0.0)):
        for result in made[name]:
            (columns,) = result["trials"].values()
            columns["score"] = [0.3 + shift + k / 1000 for k in range(128)]
            result["trials"]["unread"] = columns | {"score": [None] * 128}
    made["a"][1]["trials"]["two_objects"]["score"][5] = None
    rows = [r for r in pairs(made) if not r["part"] and r["language"] == "all"]
    assert [r["what"] for r in rows] == ["two_objects"]
    assert (
        rows[0]["n"] == 127
        and rows[0]["wins"] == 2 * 127
        and not rows[0]["share"]
        and rows[0]["difference"] == pytest.approx(0.1)
    )


def test_the_summary_of_a_cell():
    one, two = results(0.7, 1, 1), results(0.7, 2, 1)
    right = np.mean(one[0]["trials"]["two_objects"]["score"])
    found = summary(one)["two_objects"]
    assert found["score"] == pytest.approx(right) and found["n"] == 128 and found["share"]
    assert found["ci95"][0] < right < found["ci95"][1]
    assert summary(two)["two_objects"]["ci95"] is None
    one[0]["trials"]["two_objects"]["score"] = [0.25, None, 0.75]
    found = summary(one)["two_objects"]
    assert found["score"] == 0.5 and found["n"] == 2 and not found["share"]
