"""The report of `vilg compare`: every number of every contender, in the form of report.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vilg.run.compare.budget import spent
from vilg.run.compare.measure import Measures, protocols
from vilg.run.compare.pairs import pairs, summary
from vilg.run.compare.runs import Run
from vilg.workdir.files import commit, versions
from vilg.workdir.stages import Costs


def compare(
    runs: Sequence[Run],
    settings: Mapping[str, Sequence[Mapping[str, object]]],
    out: Path,
    quiet: bool,
) -> dict[str, Any]:
    """Measures every run and returns the report. `settings` holds for each contender the sampling
    options of the points of its sampling curve."""
    measures = Measures(out, quiet)
    contenders = {name: [r for r in runs if r.name == name] for name in (r.name for r in runs)}
    costs = Costs(out / "costs.json").cpu_seconds
    report: dict[str, Any] = {name: {} for name in ("metrics", "cells", "ceiling", "training")}
    report["curves"] = {"training": {}, "sampling": {}}
    finals = {}
    # One contender after another: the programs that are compiled for a run serve all its
    # measurements. The ceiling and the curves are measured for the first seed only.
    for name, seeds in contenders.items():
        first = seeds[0]
        results = [measured(measures, first)]
        report["ceiling"][name] = measures.ceiling(first.workdir)
        curves = report["curves"]
        curves["training"][name] = measures.training_curve(first.workdir, run_flops(first))
        points = settings.get(name, [{}])
        curves["sampling"][name] = measures.sampling_curve(first.workdir, points)
        results += [measured(measures, run) for run in seeds[1:]]
        finals[name] = [kinds["ema"] for kinds in results]
        by_kind = {kind: [kinds[kind] for kinds in results] for kind in results[0]}
        report["metrics"][name] = {kind: pooled(of_seeds) for kind, of_seeds in by_kind.items()}
        report["cells"][name] = {kind: summary(of_seeds) for kind, of_seeds in by_kind.items()}
        report["training"][name] = training_cost(measures, first) | {
            "cpu_seconds": [costs.get(f"{name}/{run.seed}") for run in seeds]
        }
    report["comparisons"] = pairs(finals)
    report["cpu_seconds"] = costs
    report["grid"] = {n: measures.pictures(seeds[0].workdir) for n, seeds in contenders.items()}
    report["protocol"] = {
        "contenders": {
            name: contender_protocol(seeds, averaged="raw" in report["metrics"][name])
            for name, seeds in contenders.items()
        },
        "significance": (
            "over prompts: sign flips of paired differences; over training seeds: Student's t;"
            " Holm's correction over all rows"
        ),
        "device": jax.devices()[0].device_kind,
        "commit": commit(),
        "versions": versions(),
    }
    return report


def training_cost(measures: Measures, run: Run) -> dict[str, object]:
    """The cost of the run's training: all FLOPs and images, and the FLOPs of an update by three
    counts."""
    return {
        "flops": spent(run.experiment, "flops"),
        "images": spent(run.experiment, "images"),
        "updates": run.experiment.training.steps,
        "model_flops_an_update": run.program.model_flops,
        "traced_flops_an_update": run.program.update_flops,
        "compiled_flops_an_update": measures.compiled_flops(run.program),
        "parameters": run.program.parameters,
    }


def contender_protocol(seeds: Sequence[Run], averaged: bool) -> dict[str, object]:
    """The runs, evaluators and parameters behind the scores of a contender. `averaged` says whether
    the runs keep a moving average of the parameters."""
    experiment = seeds[0].experiment
    return {
        "workdirs": [str(run.workdir) for run in seeds],
        "seeds": [run.seed for run in seeds],
        "evals": protocols(experiment),
        "config_hash": experiment.hash,
        "parameters": "moving average" if averaged else "raw (no moving average was kept)",
    }


def measured(measures: Measures, run: Run) -> dict[str, Any]:
    """The final results of a run by kind of parameters: "ema" (the moving average, or the only
    parameters) and, where the run keeps a moving average, "raw"."""
    kinds = {"ema": True} | ({"raw": False} if run.experiment.training.ema else {})
    return {kind: measures.final(run.workdir, ema) for kind, ema in kinds.items()}


def run_flops(run: Run) -> tuple[float, float]:
    """FLOPs of the experiments before this run, and FLOPs of an update."""
    return spent(run.experiment.first, "flops"), run.program.update_flops


def pooled(results: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """The evaluators' numbers of each of a contender's seeds, and the mean of every number over the
    seeds."""
    if len(results) == 1:
        return {"metrics": results[0]["metrics"], "seeds": 1}
    return {
        "metrics": mean_of([r["metrics"] for r in results]),
        "by_seed": [r["metrics"] for r in results],
        "seeds": len(results),
    }


def mean_of(trees: Sequence[Any]) -> Any:
    """The mean of trees of numbers with the same keys. Intervals of single seeds are left out,
    since they say nothing about the mean."""
    if isinstance(trees[0], Mapping):
        return {k: mean_of([t[k] for t in trees]) for k in trees[0] if k != "ci95"}
    return sum(trees) / len(trees) if isinstance(trees[0], int | float) else trees[0]
