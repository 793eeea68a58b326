"""The options of `vilg launch`, and the kinds of job."""

import argparse
import dataclasses
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from vilg.compiler.flags import parse_flags
from vilg.config import lookup, require
from vilg.experiment import Experiment, build_experiment
from vilg.experiment_file import to_dict
from vilg.fit import Fit
from vilg.paths import as_path
from vilg.planning.topology import parse_topology
from vilg.run.launch.machines import ordered
from vilg.run.launch.sweep import waves
from vilg.types import UserError
from vilg.workdir.ablation import parse_seeds, plan, read_ablation, with_starts
from vilg.workdir.profile import parse_window

IMAGE = "REGISTRY/vilg:latest"  # what stands where the user has to put something; refused by --out
BUCKET = "gs://BUCKET"
Files = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a kind of job writes. `options`: those of SPECIFIC that it has, with what holds where
    they are not given.
    """

    make: Callable[[argparse.Namespace, Experiment], Files]
    options: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options; those with None belong to some kinds only."""
    parser.usage = "vilg launch KIND --config=FILE.py[:size] (--out=DIR | --dry-run) [options]"
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--name", default="", help="of the job (default: from the config's)")
    parser.add_argument(
        "--workdir", default="", metavar="DIR", help="of the run (or sweep), seen by all hosts"
    )
    parser.add_argument("--out", default="", metavar="DIR", help="writes the files there")
    parser.add_argument("--dry-run", action="store_true", help="prints them")
    parser.add_argument(
        "--flags", metavar="NAMES", help="as `vilg train --flags` (default: by kind)"
    )
    parser.add_argument(
        "--cache",
        default="",
        metavar="DIR",
        help="of compiled programs (default: beside the workdir)",
    )
    parser.add_argument(
        "--restarts", type=int, default=100, metavar="N", help="at most (default: 100)"
    )
    for name, (form, what) in SPECIFIC.items():
        parser.add_argument(
            f"--{name}",
            help=f"{what} ({', '.join(k for k, kind in KINDS.items() if name in kind.options)})",
            **form,
        )


def main(args: argparse.Namespace, config: Any) -> int:
    """Writes or prints the files of a job."""
    kind = lookup(KINDS, args.kind, "kind")
    if config is None:
        raise UserError(
            "--config is missing: give an experiment, such as"
            " --config=experiments/ernie_vilg.py:10b"
        )
    for name in SPECIFIC:
        given = getattr(args, name)
        if given is not None and name not in kind.options:
            raise UserError(
                f"--{name} is no option of kind {args.kind}; it has"
                f" {', '.join(f'--{n}' for n in kind.options)}"
            )
        if given is None and name in kind.options:
            setattr(args, name, kind.options[name])
    require(
        bool(args.out) or args.dry_run,
        "out",
        args.out,
        "give --out=DIR to write the files, or --dry-run to print them",
    )
    require(args.restarts >= 0, "restarts", args.restarts, "must not be negative")
    file, _, size = args.config.partition(":")
    args.name = args.name or re.sub(r"[^a-z0-9]+", "-", f"{Path(file).stem}-{size}".lower()).strip(
        "-"
    )
    fits = (
        re.fullmatch(r"[a-z]([-a-z0-9]{0,37}[a-z0-9])?", args.name) is not None
    )  # JobSet adds up to 24 characters for pods
    require(
        fits,
        "name",
        args.name,
        "must be at most 39 lower-case letters, digits and -, beginning with a letter",
    )
    files = kind.make(args, build_experiment(to_dict(config)))
    if args.dry_run:
        print("\n".join(f"=== {name} ===\n{text}" for name, text in files.items()), end="")
    if not args.out:
        return 0
    for placeholder, option in ((BUCKET, "workdir"), (IMAGE, "image")):
        if any(placeholder in text for text in files.values()):
            raise UserError(f"{option}={placeholder!r}: stands for your own; give --{option}")
    for name, text in files.items():
        path = Path(args.out) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
        print(path)
    return 0


# --- the kinds ------------------------------------------------------------------------------------


def tpu_vm(args: argparse.Namespace, experiment: Experiment) -> Files:
    """Queued resources. Errors: UserError for a generation that has none."""
    context = on_slices(args, experiment)
    require(
        bool(context["slice"].runtime),
        "topology",
        args.topology,
        "has no queued resources; give kind gke",
    )
    return render("tpu_vm", context)


def gke(args: argparse.Namespace, experiment: Experiment) -> Files:
    """A JobSet."""
    return render("gke", on_slices(args, experiment))


def multislice(args: argparse.Namespace, experiment: Experiment) -> Files:
    """Both, of several slices. Errors: UserError unless the slices divide the mesh's first axis,
    which lies on the slower network.
    """
    topology = parse_topology(args.topology)
    require(
        topology.slices > 1,
        "topology",
        args.topology,
        "multislice needs several; write it with ,slices=2",
    )
    context = on_slices(args, experiment)
    axis, size = next(iter(context["mesh"].items()))
    told = (
        f"has {size} parts on its mesh axis {axis!r}, the one between slices, which"
        f" {topology.slices} slices do not divide; choose its sizes so"
    )
    require(size % topology.slices == 0, "layout.name", experiment.layout.name, told)
    folders = ("gke", "tpu_vm") if context["slice"].runtime else ("gke",)
    return {
        f"{folder}/{name}": text
        for folder in folders
        for name, text in render(folder, context).items()
    }


def slurm(args: argparse.Namespace, experiment: Experiment) -> Files:
    """A batch script. Errors: UserError for a layout that does not fit the GPUs."""
    context = on_cluster(args)
    if args.gpus:
        Fit(experiment, args.nodes * args.gpus)  # told here, not by the cluster
    return render("slurm", {**context, "command": train_command(args)})


def sweep(args: argparse.Namespace, experiment: Experiment) -> Files:
    """Arrays of the tasks that `vilg sweep` would do one by one."""
    ablation = read_ablation(args.config)
    seeds = parse_seeds(args.seeds) if args.seeds else ablation.seeds
    cells = with_starts(
        args.cells.split(",") if args.cells else list(ablation.cells), ablation.cells
    )
    context = on_cluster(args)  # after the workdir has its default
    runs = plan(dict(experiment.config), ablation, sorted(seeds), as_path(args.workdir))
    found = waves(runs, [(cell, seed) for seed in seeds for cell in cells])
    ends = [sum(len(w) for w in found[: i + 1]) for i in range(len(found))]
    bounds = [(end - len(wave), end - 1) for end, wave in zip(ends, found, strict=True)]
    selection = "".join(
        f" --{name}={shlex.quote(getattr(args, name))}"
        for name in ("cells", "seeds")
        if getattr(args, name)
    )
    command = ["vilg", "sweep", *args.config_arguments, f"--out={args.workdir}", "--quiet"]
    command += [f"--flags={args.flags}"] if args.flags else []
    context |= {
        "command": command,
        "tasks": [task for wave in found for task in wave],
        "waves": bounds,
        "jobs": args.jobs,
        "selection": selection,
    }
    return render("sweep", context)


SPECIFIC: dict[str, tuple[dict[str, Any], str]] = {
    "topology": ({"metavar": "NAME"}, "v5p:4x4x4, as in `vilg plan`"),
    "spot": ({"action": "store_const", "const": True}, "capacity that may be taken away"),
    "image": ({"metavar": "NAME"}, "of the container, pushed by run.sh"),
    "profile": ({"metavar": "A:B"}, "as in `vilg train`"),
    "nodes": ({"type": int, "metavar": "N"}, "machines"),
    "gpus": ({"type": int, "metavar": "N"}, "of each, 0 for CPUs; a process each"),
    "cpus": ({"type": int, "metavar": "N"}, "cores of each process"),
    "time": ({"metavar": "H:MM:SS"}, "limit of one start"),
    "partition": ({"metavar": "NAME"}, "of Slurm"),
    "account": ({"metavar": "NAME"}, "of Slurm"),
    "cells": ({"metavar": "A,B"}, "as in `vilg sweep`"),
    "seeds": ({"metavar": "A,B"}, "as in `vilg sweep`"),
    "jobs": ({"type": int, "metavar": "N"}, "tasks at once"),
}
SLICES = {"topology": "v5e:2x4", "spot": False, "profile": ""}
CLUSTER = {"gpus": 8, "cpus": 8, "time": "24:00:00", "partition": "", "account": ""}
KINDS = {
    "tpu_vm": Kind(tpu_vm, SLICES),
    "gke": Kind(gke, {**SLICES, "image": IMAGE}),
    "multislice": Kind(multislice, {**SLICES, "topology": "v5e:2x4,slices=2", "image": IMAGE}),
    "slurm": Kind(slurm, {**CLUSTER, "nodes": 1, "profile": ""}),
    "sweep": Kind(sweep, {**CLUSTER, "gpus": 1, "cells": "", "seeds": "", "jobs": 8}),
}


# --- what they share ------------------------------------------------------------------------------


def on_slices(args: argparse.Namespace, experiment: Experiment) -> dict[str, Any]:
    """What recipes for TPUs need."""
    topology = parse_topology(args.topology)
    mesh = Fit(experiment, topology.size).sizes  # what does not fit is told here, not by the pod
    in_the_clone(args)
    args.workdir = args.workdir or f"{BUCKET}/{args.name}"
    told = (
        "give a bucket (gs://...), or the absolute path of what every host has mounted: a clone's"
        " directory is lost with its host"
    )
    require("://" in args.workdir or args.workdir.startswith("/"), "workdir", args.workdir, told)
    if args.flags is None:
        args.flags = "tpu_async_gather" + (",tpu_multislice" if topology.slices > 1 else "")
    context = shared(args)
    line = "".join(
        f"export {name}={shlex.quote(value)}; " for name, value in context["environment"].items()
    )
    more = {
        "slice": ordered(topology),
        "mesh": mesh,
        "slices": topology.slices,
        "spot": args.spot,
        "image": getattr(args, "image", None),
    }
    return {**context, **more, "environment_line": line, "command": train_command(args)}


def in_the_clone(args: argparse.Namespace) -> None:
    """The config's file as hosts find it, who have a copy of the clone. Errors: UserError where it
    lies outside of the current directory.
    """
    file = args.config.partition(":")[0]
    told = (
        "is looked up in the clone on every host; give a file of it, and call `vilg launch` in it"
    )
    require(Path(file).resolve().is_relative_to(Path.cwd()), "config", args.config, told)
    within = Path(file).resolve().relative_to(Path.cwd()).as_posix()
    args.config_arguments = [
        a.replace(f"--config={file}", f"--config={within}", 1) for a in args.config_arguments
    ]


def on_cluster(args: argparse.Namespace) -> dict[str, Any]:
    """What recipes for Slurm need."""
    args.workdir = args.workdir or f"runs/{args.name}"
    for name in ("nodes", "cpus", "jobs"):
        require(
            getattr(args, name, 1) is None or getattr(args, name, 1) > 0,
            name,
            getattr(args, name, 1),
            "must be at least 1",
        )
    require(args.gpus >= 0, "gpus", args.gpus, "must not be negative")
    require(
        re.fullmatch(r"(\d+-)?\d+(:\d\d){0,2}", args.time) is not None,
        "time",
        args.time,
        "write it as 24:00:00 or 2-00:00:00",
    )
    for name in ("partition", "account"):
        require(
            re.fullmatch(r"[\w.,-]*", getattr(args, name)) is not None,
            name,
            getattr(args, name),
            "has other characters than letters, digits and . , -",
        )
    if args.flags is None:
        args.flags = "gpu_overlap" if args.gpus else ""
    context = shared(args)
    context["environment"] |= {} if args.gpus else {"JAX_PLATFORMS": "cpu"}
    return {
        **context,
        **{
            name: getattr(args, name, None)
            for name in ("nodes", "gpus", "cpus", "time", "partition", "account")
        },
    }


def shared(args: argparse.Namespace) -> dict[str, Any]:
    """What every recipe needs."""
    parse_flags(args.flags)
    cache = args.cache or f"{args.workdir.rstrip('/').rpartition('/')[0] or '.'}/compile-cache"
    environment = {"JAX_COMPILATION_CACHE_DIR": cache}
    return {
        "name": args.name,
        "workdir": args.workdir,
        "restarts": args.restarts,
        "environment": environment,
    }


def train_command(args: argparse.Namespace) -> list[str]:
    """The command that every host gives, at first and after every interruption."""
    parse_window(args.profile)
    options = [
        f"--{name}={value}"
        for name, value in (("flags", args.flags), ("profile", args.profile))
        if value
    ]
    return ["vilg", "train", *args.config_arguments, f"--workdir={args.workdir}", *options]


def render(folder: str, context: dict[str, Any]) -> Files:
    """The templates of a folder, filled in."""
    loader = jinja2.PackageLoader("vilg.run.launch", "templates")
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"quote": shlex.quote, "command": shlex.join}
    names = sorted(name for name in environment.list_templates() if name.startswith(f"{folder}/"))
    return {
        name.partition("/")[2]: environment.get_template(name).render(context) for name in names
    }
