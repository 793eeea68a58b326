"""The kinds of job, each a function from options and an experiment to files."""

import argparse
import dataclasses
import shlex
from collections.abc import Callable, Mapping

from vilg.config import require
from vilg.experiment import Experiment
from vilg.fit import Fit
from vilg.paths import as_path
from vilg.planning.topology import parse_topology
from vilg.run.launch.context import IMAGE, on_cluster, on_slices, train_command
from vilg.run.launch.files import Files, render
from vilg.run.launch.sweep import waves
from vilg.workdir.ablation import ablation_runs, parse_seeds, read_ablation, with_starts


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of job. `make` gives its files; `options` are the names of verb.OPTIONS that it takes,
    with their defaults.
    """

    make: Callable[[argparse.Namespace, Experiment], Files]
    options: Mapping[str, str | int | bool]


def tpu_vm(args: argparse.Namespace, experiment: Experiment) -> Files:
    """Queued resources of TPU VMs. Errors: UserError for a generation that has none."""
    context = on_slices(args, experiment)
    remedy = "has no queued resources; give kind gke"
    require(bool(context.slice.runtime), "topology", args.topology, remedy)
    return render("tpu_vm", context.variables(args))


def gke(args: argparse.Namespace, experiment: Experiment) -> Files:
    """A JobSet of Kubernetes."""
    return render("gke", on_slices(args, experiment).variables(args))


def multislice(args: argparse.Namespace, experiment: Experiment) -> Files:
    """A JobSet and queued resources of several slices. Errors: UserError unless the slices divide
    the mesh's first axis, which lies on the slower network.
    """
    topology = parse_topology(args.topology)
    remedy = "multislice needs several; write it with ,slices=2"
    require(topology.slices > 1, "topology", args.topology, remedy)
    context = on_slices(args, experiment)
    axis, size = next(iter(context.mesh.items()))
    remedy = (
        f"has {size} parts on its mesh axis {axis!r}, the one between slices, which"
        f" {topology.slices} slices do not divide; choose its sizes so"
    )
    require(size % topology.slices == 0, "layout.name", experiment.layout.name, remedy)
    folders = ("gke", "tpu_vm") if context.slice.runtime else ("gke",)
    return {
        f"{folder}/{name}": text
        for folder in folders
        for name, text in render(folder, context.variables(args)).items()
    }


def slurm(args: argparse.Namespace, experiment: Experiment) -> Files:
    """A batch script of Slurm. Errors: UserError for a layout that does not fit the GPUs."""
    variables = on_cluster(args)
    if args.gpus:
        Fit(experiment, args.nodes * args.gpus)  # an error here is earlier than on the cluster
    return render("slurm", {**variables, "command": train_command(args)})


def sweep(args: argparse.Namespace, experiment: Experiment) -> Files:
    """Arrays of Slurm for the tasks that `vilg sweep` would do one by one."""
    ablation = read_ablation(args.config)
    seeds = parse_seeds(args.seeds) if args.seeds else ablation.seeds
    cells = args.cells.split(",") if args.cells else list(ablation.cells)
    cells = with_starts(cells, ablation.cells)
    variables = on_cluster(args)  # gives the workdir its default
    runs = ablation_runs(dict(experiment.config), ablation, sorted(seeds), as_path(args.workdir))
    tasks = waves(runs, [(cell, seed) for seed in seeds for cell in cells])
    ends = [sum(map(len, tasks[: i + 1])) for i in range(len(tasks))]
    selected = {name: value for name in ("cells", "seeds") if (value := vars(args)[name])}
    command = ["vilg", "sweep", *args.config_arguments, f"--out={args.workdir}", "--quiet"]
    command += [f"--flags={args.flags}"] if args.flags else []
    variables |= {
        "command": command,
        "tasks": [task for wave in tasks for task in wave],
        "waves": [(end - len(wave), end - 1) for end, wave in zip(ends, tasks, strict=True)],
        "jobs": args.jobs,
        "selection": "".join(f" --{n}={shlex.quote(value)}" for n, value in selected.items()),
    }
    return render("sweep", variables)


SLICES = {"topology": "v5e:2x4", "spot": False, "profile": ""}
CLUSTER = {"gpus": 8, "cpus": 8, "time": "24:00:00", "partition": "", "account": ""}
KINDS: dict[str, Kind] = {
    "tpu_vm": Kind(tpu_vm, SLICES),
    "gke": Kind(gke, {**SLICES, "image": IMAGE}),
    "multislice": Kind(multislice, {**SLICES, "topology": "v5e:2x4,slices=2", "image": IMAGE}),
    "slurm": Kind(slurm, {**CLUSTER, "nodes": 1, "profile": ""}),
    "sweep": Kind(sweep, {**CLUSTER, "gpus": 1, "cells": "", "seeds": "", "jobs": 8}),
}
