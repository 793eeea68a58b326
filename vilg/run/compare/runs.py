"""The contenders of `vilg compare` as runs: finished runs, and runs that are yet to be trained."""

import copy
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vilg.config import require
from vilg.experiment import Experiment, build_experiment
from vilg.experiment_file import generator_configs
from vilg.parallel.layouts import parse_layout
from vilg.program import Program
from vilg.run.compare.budget import steps_within
from vilg.run.compare.measure import POINTS
from vilg.types import Generator
from vilg.workdir.files import Workdir
from vilg.workdir.restore import has_parameters
from vilg.workdir.stages import Costs
from vilg.workdir.training import train


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One contender with one training seed."""

    name: str
    seed: int
    experiment: Experiment
    workdir: Path

    @functools.cached_property
    def program(self) -> Program:
        """The program on one device: the cost of a run does not depend on its layout."""
        return Program(self.experiment, jax.devices()[:1], layout=parse_layout("dp"))


def stored_runs(text: str) -> list[Run]:
    """The runs of "NAME=DIR,NAME=DIR".

    Errors: UserError for fewer than two names, the run of a codec or a ranker, two runs of a name
    with the same training seed, or names with different numbers of runs."""
    runs: list[Run] = []
    for part in filter(None, text.split(",")):
        name, _, workdir = part.partition("=") if "=" in part else (Path(part).name, "", part)
        experiment = build_experiment(Workdir(workdir).read().config)
        require(
            isinstance(experiment.model, Generator),
            "workdirs",
            workdir,
            "is the run of a codec or a ranker; give runs of generators",
        )
        runs.append(Run(name, experiment.seed, experiment, Path(workdir)))
    require(
        len({r.name for r in runs}) > 1,
        "workdirs",
        text,
        "must name at least two runs of different names, such as ar=DIR,diffusion=DIR",
    )
    for name in {r.name for r in runs}:
        seeds = [r.seed for r in runs if r.name == name]
        require(
            len(set(seeds)) == len(seeds),
            "workdirs",
            name,
            "is given twice with the same training seed; runs of one name need different seeds",
        )
    counts = {name: sum(r.name == name for r in runs) for name in {r.name for r in runs}}
    require(
        len(set(counts.values())) == 1,
        "workdirs",
        text,
        "must give every name the same number of runs: seeds are compared one by one",
    )
    return runs


def planned_runs(
    path: str, config: dict[str, Any], budget: str, seeds: Sequence[int], out: Path
) -> list[Run]:
    """The runs of an experiment file, with as many steps as the budget pays for."""
    configs = generator_configs(path, config, out / "codec")
    require(
        len(configs) > 1,
        "generators",
        ", ".join(configs),
        "must name at least two generators; a single experiment is trained by `vilg train`",
    )
    runs = []
    for name, base in configs.items():
        steps = steps_within(build_experiment(base), budget, out / "budget.json", name)
        for seed in seeds:
            seeded = copy.deepcopy(base)
            seeded["seed"] = seeded["data"]["loader"]["seed"] = seed
            every = -(-steps // (POINTS + 1))
            seeded["training"].update(
                steps=steps,
                checkpoint_every=every,
                keep_last=POINTS + 2,
                keep_best=0,
                evaluate_every=0,
            )
            runs.append(Run(name, seed, build_experiment(seeded), out / name / str(seed)))
    return runs


def perform(runs: Sequence[Run], others: Mapping[str, ConfigDict], out: Path, quiet: bool) -> None:
    """Trains the codec, every run, and the experiments of `others`, unless they are trained
    already.

    `others` holds configs by the name of their directory in `out`."""
    costs = Costs(out / "costs.json")
    experiment = runs[0].experiment
    if has_parameters(experiment.image_codec):
        with costs.stage("codec", resumes=True):
            train(experiment.codec_config, out / "codec", quiet, title="codec")
    for run in runs:
        with costs.stage(f"{run.name}/{run.seed}", resumes=True):
            train(run.experiment.config, run.workdir, quiet, title=f"{run.name}/{run.seed}")
        jax.clear_caches()
    for name, config in others.items():
        with costs.stage(name, resumes=True):
            train(config, out / name, quiet, title=name)
