"""The report of `vilg compare`: every number of every contender, as report.json holds it."""

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
    runs: Sequence[Run], settings: Mapping[str, Any], out: Path, quiet: bool
) -> dict[str, Any]:
    """The report."""
    measures = Measures(out, quiet)
    names = list(dict.fromkeys(run.name for run in runs))
    seeds = {name: [r for r in runs if r.name == name] for name in names}
    costs = Costs(out / "costs.json").cpu_seconds
    report: dict[str, Any] = {name: {} for name in ("metrics", "cells", "ceiling", "training")}
    report["curves"] = {"training": {}, "sampling": {}}
    finals: dict[str, list[Any]] = {}
    for (
        name,
        own,
    ) in (
        seeds.items()
    ):  # one run after another, since what is compiled for one serves all of its measurements
        first, rest = own[0], own[1:]
        results = [measured(measures, first)]
        report["ceiling"][name] = measures.ceiling(first.workdir)
        report["curves"]["training"][name] = measures.training_curve(
            first.workdir, run_flops(first)
        )
        report["curves"]["sampling"][name] = measures.sampling_curve(
            first.workdir, settings.get(name, [{}])
        )
        results += [measured(measures, run) for run in rest]
        finals[name] = [kinds["ema"] for kinds in results]
        report["metrics"][name] = {
            kind: pooled([kinds[kind] for kinds in results]) for kind in results[0]
        }
        report["cells"][name] = {
            kind: summary([kinds[kind] for kinds in results]) for kind in results[0]
        }
        report["training"][name] = {
            "flops": spent(first.experiment, "flops"),
            "images": spent(first.experiment, "images"),
            "updates": first.experiment.training.steps,
            "model_flops_an_update": first.program.model_flops,
            "traced_flops_an_update": first.program.update_flops,
            "compiled_flops_an_update": measures.compiled_flops(first.program),
            "parameters": first.program.parameters,
            "cpu_seconds": [costs.get(f"{name}/{r.seed}") for r in own],
        }
    report["comparisons"] = pairs(finals)
    report["cpu_seconds"] = costs
    report["grid"] = {name: measures.pictures(own[0].workdir) for name, own in seeds.items()}
    report["protocol"] = {
        "contenders": {
            name: {
                "workdirs": [str(r.workdir) for r in seeds[name]],
                "seeds": [r.seed for r in seeds[name]],
                "evals": protocols(seeds[name][0].experiment),
                "config_hash": seeds[name][0].experiment.hash,
                "parameters": (
                    "moving average"
                    if "raw" in report["metrics"][name]
                    else "raw (no moving average was kept)"
                ),
            }
            for name in names
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


def measured(measures: Measures, run: Run) -> dict[str, Any]:
    """The final results of a run by kind of parameters: "ema" (the best it has), and "raw" where it
    keeps a moving average.
    """
    kinds = {"ema": True} | ({"raw": False} if run.experiment.training.ema else {})
    return {kind: measures.final(run.workdir, ema) for kind, ema in kinds.items()}


def run_flops(run: Run) -> tuple[float, float]:
    """(FLOPs of what came first, FLOPs of an update)."""
    return spent(run.experiment.first, "flops"), run.program.update_flops


def pooled(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one contender's seeds: the evaluators' numbers of each, and the mean of every number over
    them.
    """
    if len(results) == 1:
        return {"metrics": results[0]["metrics"], "seeds": 1}
    return {
        "metrics": mean_of([r["metrics"] for r in results]),
        "by_seed": [r["metrics"] for r in results],
        "seeds": len(results),
    }


def mean_of(trees: Sequence[Any]) -> Any:
    """The mean of like trees of numbers; intervals of single seeds are left out, since they say
    nothing of the mean.
    """
    if isinstance(trees[0], Mapping):
        return {k: mean_of([t[k] for t in trees]) for k in trees[0] if k != "ci95"}
    return sum(trees) / len(trees) if isinstance(trees[0], int | float) else trees[0]
