"""The variables of the templates, from the options of `vilg launch`."""

import argparse
import dataclasses
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vilg.compiler.flags import parse_flags
from vilg.config import require
from vilg.experiment import Experiment
from vilg.fit import Fit
from vilg.planning.topology import Topology, parse_topology
from vilg.run.launch.machines import Slice, ordered
from vilg.workdir.profile import parse_window

# Placeholders for what the user has to name; --out refuses them, --dry-run prints them.
IMAGE, BUCKET = "REGISTRY/vilg:latest", "gs://BUCKET"
Variables = dict[str, Any]  # of the templates, by name


@dataclasses.dataclass(frozen=True)
class SliceContext:
    """TPU slices, and the mesh of an experiment on them."""

    topology: Topology
    slice: Slice
    mesh: Mapping[str, int]

    def variables(self, args: argparse.Namespace) -> Variables:
        """The variables of templates for TPUs."""
        variables = shared(args)
        exports = (f"export {n}={shlex.quote(v)}; " for n, v in variables["environment"].items())
        return {
            **variables,
            "slice": self.slice,
            "mesh": self.mesh,
            "slices": self.topology.slices,
            "spot": args.spot,
            "image": args.image,
            "environment_line": "".join(exports),
            "command": train_command(args),
        }


def on_slices(args: argparse.Namespace, experiment: Experiment) -> SliceContext:
    """The slices of the options, to which it adds defaults. Errors: UserError for a mesh that does
    not fit them, and for a workdir that is not seen by all hosts.
    """
    topology = parse_topology(args.topology)
    mesh = Fit(experiment, topology.size).sizes  # an error here is earlier than on the pod
    in_the_clone(args)
    args.workdir = args.workdir or f"{BUCKET}/{args.name}"
    remedy = (
        "give a bucket (gs://...), or the absolute path of what every host has mounted: a clone's"
        " directory is lost with its host"
    )
    seen = "://" in args.workdir or args.workdir.startswith("/")
    require(seen, "workdir", args.workdir, remedy)
    if args.flags is None:
        args.flags = "tpu_async_gather" + (",tpu_multislice" if topology.slices > 1 else "")
    return SliceContext(topology, ordered(topology), mesh)


def in_the_clone(args: argparse.Namespace) -> None:
    """Makes the path of the config's file relative to the clone, of which every host has a copy.
    Errors: UserError for a file outside of the current directory.
    """
    file = args.config.partition(":")[0]
    path = Path(file).resolve()
    remedy = (
        "is looked up in the clone on every host; give a file of it, and call `vilg launch` in it"
    )
    require(path.is_relative_to(Path.cwd()), "config", args.config, remedy)
    within = path.relative_to(Path.cwd()).as_posix()
    args.config_arguments = [
        a.replace(f"--config={file}", f"--config={within}", 1) for a in args.config_arguments
    ]


def on_cluster(args: argparse.Namespace) -> Variables:
    """The variables of templates for Slurm. Adds defaults to the options. Errors: UserError for an
    option that Slurm would refuse.
    """
    args.workdir = args.workdir or f"runs/{args.name}"
    given = vars(args)
    for name in ("nodes", "cpus", "jobs"):
        positive = given[name] is None or given[name] > 0
        require(positive, name, given[name], "must be at least 1")
    require(args.gpus >= 0, "gpus", args.gpus, "must not be negative")
    valid = re.fullmatch(r"(\d+-)?\d+(:\d\d){0,2}", args.time) is not None
    require(valid, "time", args.time, "write it as 24:00:00 or 2-00:00:00")
    for name in ("partition", "account"):
        valid = re.fullmatch(r"[\w.,-]*", given[name]) is not None
        remedy = "has other characters than letters, digits and . , -"
        require(valid, name, given[name], remedy)
    if args.flags is None:
        args.flags = "gpu_overlap" if args.gpus else ""
    variables = shared(args)
    if not args.gpus:
        variables["environment"]["JAX_PLATFORMS"] = "cpu"
    names = ("nodes", "gpus", "cpus", "time", "partition", "account")
    return {**variables, **{name: given[name] for name in names}}


def shared(args: argparse.Namespace) -> Variables:
    """The variables of every template. Errors: UserError for unknown flags."""
    parse_flags(args.flags)
    cache = args.cache or f"{args.workdir.rstrip('/').rpartition('/')[0] or '.'}/compile-cache"
    return {
        "name": args.name,
        "workdir": args.workdir,
        "restarts": args.restarts,
        "environment": {"JAX_COMPILATION_CACHE_DIR": cache},
    }


def train_command(args: argparse.Namespace) -> list[str]:
    """The command that every host gives, at first and after every interruption."""
    parse_window(args.profile)
    options = {"flags": args.flags, "profile": args.profile}
    given = [f"--{name}={value}" for name, value in options.items() if value]
    return ["vilg", "train", *args.config_arguments, f"--workdir={args.workdir}", *given]
