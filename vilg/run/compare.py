"""vilg compare: generators on the same data, text, codec and training compute, evaluated by one path and put on one page.

  vilg compare --config=experiments/compare_quickstart.py --out=DIR      trains what is missing, then compares
  vilg compare --workdirs=NAME=DIR,NAME=DIR,... --out=DIR                compares runs that are there; a NAME twice is two seeds

The file of --config is an experiment's. Beside get_config, which gives the first contender, it has

  generators  a function of the config size: {name: config}; data, codec, layout and seed are the first's in all
  BUDGET      what each run may spend on training: "flops:3e13" (matrix products and convolutions), "images:48000", or "seconds:600" (of
              this machine; timed once and kept)
  SEEDS       training seeds (default 0)
  SAMPLING    {name: settings}, each a mapping of fields of the evaluator that samples: the curve of quality against the cost of sampling
  RANKER      the config of a ranker (experiments/ranker.py), trained into DIR/ranker, which chooses where a setting has best_of

DIR/NAME/SEED are workdirs that every verb accepts, DIR/samples/NAME holds the pictures, DIR/report.json the numbers, DIR/index.html opens
offline. What is finished is not done again; a second run gives the same numbers, but for those in seconds.
"""

import argparse
import copy
import dataclasses
import functools
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Column, Table

from vilg.config import require
from vilg.evals.base import Sampling
from vilg.experiment import Experiment, build_experiment, deciding, load_file, to_dict
from vilg.parallel.layouts import parse_layout
from vilg.program import Program
from vilg.report.comparison import write_comparison
from vilg.run.compare_measure import POINTS, Measures, samplers
from vilg.run.compare_pairs import pairs, summary
from vilg.run.costs import Costs
from vilg.run.quickstart import all_generators
from vilg.run.session import has_parameters
from vilg.run.sweep import parse_seeds
from vilg.run.train import train
from vilg.run.workdir import Workdir, commit, first_difference, versions
from vilg.types import Generator, UserError

BUDGETS = ("flops", "images", "seconds")
NEAR = 0.01  # realised and asked training FLOPs may differ by this share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options; --config is shared by all verbs that take one."""
    parser.add_argument("--workdirs", default="", metavar="NAME=DIR,...", help="runs that are there, instead of --config")
    parser.add_argument("--out", required=True, metavar="DIR", help="holds report.json, index.html, samples/ and what is trained")
    parser.add_argument(
        "--budget", default="", metavar="KIND:AMOUNT", help="instead of the file's BUDGET: flops:3e13, images:48000 or seconds:600"
    )
    parser.add_argument("--seeds", default="", help="training seeds joined by commas (default: the file's SEEDS, or 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One contender with one training seed."""

    name: str
    seed: int
    experiment: Experiment
    workdir: Path

    @functools.cached_property
    def program(self) -> Program:
        """On one device: what a run costs does not depend on its layout."""
        return Program(self.experiment, jax.devices()[:1], layout=parse_layout("dp"))


def main(args: argparse.Namespace, config: Any) -> int:
    """Trains, measures, compares, writes."""
    if (config is None) == (not args.workdirs):
        raise UserError("give either --config=experiments/compare_quickstart.py or --workdirs=NAME=DIR,NAME=DIR")
    out = Path(args.out)
    settings: dict[str, Any] = {}
    if config is None:
        require(
            not (args.budget or args.seeds),
            "budget",
            args.budget or args.seeds,
            "is of training, and --workdirs trains nothing; leave it out",
        )
        runs, budget = stored_runs(args.workdirs), ""
        same_protocol(runs)
    else:
        module = load_file(args.config.partition(":")[0])
        budget = args.budget or getattr(module, "BUDGET", "")
        settings = dict(getattr(module, "SAMPLING", {}))
        seeds = parse_seeds(args.seeds or ",".join(map(str, getattr(module, "SEEDS", (0,)))))
        runs = planned_runs(args.config, to_dict(config), budget, seeds, out)
        same_protocol(runs)
        ranker = getattr(module, "RANKER", None)
        chosen = any("best_of" in setting for one in settings.values() for setting in one)
        require(not chosen or ranker is not None, "SAMPLING", settings, "has best_of, so the file needs RANKER, the config of what chooses")
        out.mkdir(parents=True, exist_ok=True)
        perform(runs, ranker if chosen else None, out, args.quiet)
        same_text(runs)
        place = str(out / "ranker")
        settings = {name: [s | ({"ranker": place} if "best_of" in s else {}) for s in one] for name, one in settings.items()}
    out.mkdir(parents=True, exist_ok=True)
    report = compare(runs, settings, out, args.quiet)
    report["protocol"] |= {"budget": budget, "config": args.config if config is not None else "", "unmatched": unmatched(runs)}
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
    write_comparison(out, report)
    show(report)
    print(f"{out / 'index.html'}")
    return 0


# --- which runs ------------------------------------------------------------------------------------------------------------


def stored_runs(text: str) -> list[Run]:
    """The runs of "NAME=DIR,NAME=DIR". Errors: UserError for fewer than two names, a codec's run, or one that is not finished."""
    runs: list[Run] = []
    for part in filter(None, text.split(",")):
        name, _, place = part.partition("=") if "=" in part else (Path(part).name, "", part)
        stored = Workdir(place).read()
        experiment = build_experiment(stored["config"])
        require(isinstance(experiment.generator, Generator), "workdirs", place, "is the run of a codec or a ranker; give runs of generators")
        runs.append(Run(name, experiment.seed, experiment, Path(place)))
    require(
        len({r.name for r in runs}) > 1, "workdirs", text, "must name at least two runs of different names, such as ar=DIR,diffusion=DIR"
    )
    for name in {r.name for r in runs}:
        seeds = [r.seed for r in runs if r.name == name]
        require(
            len(set(seeds)) == len(seeds), "workdirs", name, "comes twice with one training seed; runs of one name are told apart by it"
        )
    counts = {name: sum(r.name == name for r in runs) for name in {r.name for r in runs}}
    require(len(set(counts.values())) == 1, "workdirs", text, "must give every name as many runs: seeds are compared one by one")
    return runs


def planned_runs(path: str, config: dict[str, Any], budget: str, seeds: Sequence[int], out: Path) -> list[Run]:
    """The runs of the file, their steps set to the budget."""
    configs = all_generators(path, config, out / "codec")
    require(len(configs) > 1, "generators", ", ".join(configs), "must name at least two; a single experiment is run by `vilg train`")
    runs = []
    for name, base in configs.items():
        steps = steps_within(build_experiment(base), budget, out / "budget.json", name)
        for seed in seeds:
            one = copy.deepcopy(base)
            one["seed"] = one["data"]["loader"]["seed"] = seed
            every = -(-steps // (POINTS + 1))
            one["training"].update(steps=steps, checkpoint_every=every, keep_last=POINTS + 2, keep_best=0, evaluate_every=0)
            runs.append(Run(name, seed, build_experiment(one), out / name / str(seed)))
    return runs


def steps_within(experiment: Experiment, budget: str, kept: Path, name: str) -> int:
    """Updates that the budget pays for, what comes before (training.first) subtracted; the config's own without a budget."""
    if not budget:
        return experiment.training.steps
    kind, _, text = budget.partition(":")
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    fits = kind in BUDGETS and 0 < amount < math.inf
    require(fits, "budget", budget, f"must be KIND:AMOUNT with a kind of {', '.join(BUDGETS)}, such as flops:3e13")
    program = Program(experiment, jax.devices()[:1], layout=parse_layout("dp"))
    if kind == "seconds":
        steps = round(amount / timed(program, kept, name))
    else:
        each = program.update_flops if kind == "flops" else experiment.training.batch_size
        steps = round((amount - spent(experiment.first, kind)) / each)
    require(steps > 0, "budget", budget, f"is too little for an update of {name}; give more")
    if kind == "flops" and experiment.first is None:
        realised = steps * program.update_flops / amount
        require(
            abs(realised - 1) <= NEAR,
            "budget",
            budget,
            f"would be met by {name} to {realised:.3f} only, since updates are whole; give more",
        )
    return steps


def spent(experiment: Experiment | None, kind: str) -> float:
    """FLOPs or images of an experiment's training, with what comes first."""
    if experiment is None:
        return 0.0
    program = Program(experiment, jax.devices()[:1], layout=parse_layout("dp"))
    each = program.update_flops if kind == "flops" else experiment.training.batch_size
    return each * experiment.training.steps + spent(experiment.first, kind)


def timed(program: Program, kept: Path, name: str) -> float:
    """Seconds of an update on this machine, without the loading of data: the median of five, measured once and kept in a file."""
    stored = json.loads(kept.read_text()) if kept.is_file() else {}
    if name not in stored:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (program.batch_shapes(), program.frozen_shapes()))
        state, seconds = program.init_state(), []
        for _ in range(7):
            began = time.monotonic()
            state, _ = jax.block_until_ready(program.train_step(state, *zeros))
            seconds.append(time.monotonic() - began)
        stored[name] = sorted(seconds[2:])[2]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(stored))
    return stored[name]


def same_protocol(runs: Sequence[Run]) -> None:
    """Errors: UserError naming the first field in which two runs are evaluated otherwise: data, size of pictures, evaluators. How a generator
    samples is its own; captions do not change samples."""
    own = {f.name for f in dataclasses.fields(Sampling)} | {"captions"}

    def protocol(run: Run) -> dict[str, Any]:
        evals = protocols(run.experiment)
        data = {k: v for k, v in deciding(run.experiment.config)["data"].items() if k in ("train", "valid")}
        measured = {n: {k: v for k, v in p.items() if k not in own} for n, p in evals.items()}
        return {"data": data, "image_size": run.experiment.codec.image_size, "evals": measured}

    first = protocol(runs[0])
    there = list(runs[0].experiment.evals)
    require(bool(first["evals"]), "evals", there, f"of {runs[0].name} has no evaluator that samples; name one, such as scenes")
    for run in runs[1:]:
        difference = first_difference(json.loads(json.dumps(first)), json.loads(json.dumps(protocol(run))))
        if difference:
            field, ours, theirs = difference
            raise UserError(
                f"protocols differ: {field} is {ours!r} in {runs[0].name} and {theirs!r} in {run.name}; evaluate both the same way to compare them"
            )


def protocols(experiment: Experiment) -> dict[str, Any]:
    """What its evaluators that sample say of themselves."""
    return {n: e.protocol() for n, e in samplers(experiment).items()}


def unmatched(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """What is not the same in all runs and may decide who wins: {what: {name: value}}."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        stored = Workdir(run.workdir).read()
        facts = {"codec": stored.get("codec_hash"), "text model": stored.get("text_sha256", "")[:12], "versions": stored.get("versions")}
        facts |= {
            "loader": run.experiment.config["data"]["loader"] | {"seed": None},
            "knowledge": run.experiment.config["data"].get("knowledge"),
        }
        for name, value in facts.items():
            found.setdefault(name, {}).setdefault(run.name, value)
    return {k: v for k, v in found.items() if len({json.dumps(x, sort_keys=True) for x in v.values()}) > 1}


# --- training --------------------------------------------------------------------------------------------------------------


def perform(runs: Sequence[Run], ranker: Any, out: Path, quiet: bool) -> None:
    """Trains the codec, every run, and the ranker where there is one, as far as they are not."""
    costs = Costs(out / "costs.json")
    codec = runs[0].experiment.codec_experiment
    if has_parameters(codec.codec):
        with costs.stage("codec", resumes=True):
            train(codec.config, out / "codec", quiet, title="codec")
    for run in runs:
        with costs.stage(f"{run.name}/{run.seed}", resumes=True):
            train(run.experiment.config, run.workdir, quiet, title=f"{run.name}/{run.seed}")
        jax.clear_caches()
    if ranker is not None:
        with costs.stage("ranker", resumes=True):
            train(ranker, out / "ranker", quiet, title="ranker")


def same_text(runs: Sequence[Run]) -> None:
    """Errors: UserError where runs of one comparison have different ids."""
    ids = {run.name: Workdir(run.workdir).read().get("text_sha256") for run in runs}
    require(len(set(ids.values())) == 1, "text model", ids, "is not the same in all; give the same data.text and data.train")


# --- numbers ---------------------------------------------------------------------------------------------------------------


def compare(runs: Sequence[Run], settings: Mapping[str, Any], out: Path, quiet: bool) -> dict[str, Any]:
    """The report."""
    measures = Measures(out, quiet)
    names = list(dict.fromkeys(run.name for run in runs))
    seeds = {name: [r for r in runs if r.name == name] for name in names}
    costs = Costs(out / "costs.json").cpu_seconds
    report: dict[str, Any] = {name: {} for name in ("metrics", "cells", "ceiling", "training")}
    report["curves"] = {"training": {}, "sampling": {}}
    finals: dict[str, list[Any]] = {}
    for name, own in seeds.items():  # one run after another, since what is compiled for one serves all of its measurements
        first, rest = own[0], own[1:]
        results = [measured(measures, first)]
        report["ceiling"][name] = measures.ceiling(first.workdir)
        report["curves"]["training"][name] = measures.training_curve(first.workdir, run_flops(first))
        report["curves"]["sampling"][name] = measures.sampling_curve(first.workdir, settings.get(name, [{}]))
        results += [measured(measures, run) for run in rest]
        finals[name] = [kinds["ema"] for kinds in results]
        report["metrics"][name] = {kind: pooled([kinds[kind] for kinds in results]) for kind in results[0]}
        report["cells"][name] = {kind: summary([kinds[kind] for kinds in results]) for kind in results[0]}
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
                "parameters": "moving average" if "raw" in report["metrics"][name] else "raw (no moving average was kept)",
            }
            for name in names
        },
        "significance": "over prompts: sign flips of paired differences; over training seeds: Student's t; Holm's correction over all rows",
        "device": jax.devices()[0].device_kind,
        "commit": commit(),
        "versions": versions(),
    }
    return report


def measured(measures: Measures, run: Run) -> dict[str, Any]:
    """The final results of a run by kind of parameters: "ema" (the best it has), and "raw" where it keeps a moving average."""
    kinds = {"ema": True} | ({"raw": False} if run.experiment.training.ema else {})
    return {kind: measures.final(run.workdir, ema) for kind, ema in kinds.items()}


def run_flops(run: Run) -> tuple[float, float]:
    """(FLOPs of what came first, FLOPs of an update)."""
    return spent(run.experiment.first, "flops"), run.program.update_flops


def pooled(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one contender's seeds: the evaluators' numbers of each, and the mean of every number over them."""
    if len(results) == 1:
        return {"metrics": results[0]["metrics"], "seeds": 1}
    return {"metrics": mean_of([r["metrics"] for r in results]), "by_seed": [r["metrics"] for r in results], "seeds": len(results)}


def mean_of(trees: Sequence[Any]) -> Any:
    """The mean of like trees of numbers; intervals of single seeds are left out, since they say nothing of the mean."""
    if isinstance(trees[0], Mapping):
        return {k: mean_of([t[k] for t in trees]) for k in trees[0] if k != "ci95"}
    return sum(trees) / len(trees) if isinstance(trees[0], int | float) else trees[0]


def show(report: Mapping[str, Any]) -> None:
    """Who wins where, for people: a table for every two contenders."""
    rows = [r for r in report["comparisons"] if r["language"] == "all" and not r["part"]]
    for a, b in dict.fromkeys((r["a"], r["b"]) for r in rows):
        columns = (Column(c, justify="right", no_wrap=True) for c in ("A", "B", "A won", "tied", "lost", "p"))
        table = Table(
            Column(""), *columns, "A is", title=f"A = {a} against B = {b}", caption="p over prompts, corrected (Holm)"
        )
        for r in rows:
            if (r["a"], r["b"]) == (a, b):
                counts = [str(r[k]) for k in ("wins", "ties", "losses")]
                said = r["verdict"].replace("no significant difference", "not different")
                table.add_row(r["what"], f"{r['score_a']:.3f}", f"{r['score_b']:.3f}", *counts, f"{r['p_holm']:.4f}", said)
        Console().print(table)
    for what, values in report["protocol"]["unmatched"].items():
        print(f"not the same in all: {what}: " + "; ".join(f"{name} {value}" for name, value in values.items()))
