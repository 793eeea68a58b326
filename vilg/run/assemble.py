"""vilg assemble: joins runs that each trained one expert (generator.experts.only) into one run.

The parts must be runs of one experiment that differ in that field only, with the same text encoder,
codec and scale of latents, at the same step. Parameters, their moving average and the optimizer's
moments are stacked expert by expert on the host, so that no device has to hold them all. The new
run is sampled, evaluated and trained further like a run that trained all experts itself."""

import argparse
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vilg.experiment import Experiment, build_experiment
from vilg.experiment_file import run_identity
from vilg.generators.mixture import Experts, HasExperts
from vilg.parallel.layouts import parse_layout
from vilg.program import Program
from vilg.run.terminal.outputs import counted
from vilg.training.checkpoint import Checkpoints, digest, named_leaves
from vilg.types import UserError
from vilg.workdir.files import Record, Workdir, first_difference, versions
from vilg.workdir.restore import restore
from vilg.workdir.session import fitting_layout

EXPERTS = ("generator", "experts")
SAME = {
    "codec_hash": "the codec",
    "latents": "the scale of latents",
    "text_sha256": "the text model",
}


def experts_of(experiment: Experiment) -> Experts:
    """The experts of the experiment's model; a single expert for a model without experts."""
    model = experiment.model
    return model.experts if isinstance(model, HasExperts) else Experts()


@dataclasses.dataclass(frozen=True)
class Part:
    """A run that trained one expert."""

    directory: Workdir
    record: Record
    experiment: Experiment

    @property
    def name(self) -> str:
        """The part's directory."""
        return str(self.directory.path)

    @property
    def only(self) -> int:
        """The expert that the part trained."""
        return experts_of(self.experiment).only


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "--parts",
        required=True,
        metavar="DIR0,DIR1,...",
        help="the workdirs of all experts' runs, joined by commas",
    )
    parser.add_argument("--out", required=True, help="directory of the new run; must be empty")


def main(args: argparse.Namespace, config: object) -> int:
    """Assembles the parts and prints a line about the new run."""
    print(assemble([p for p in args.parts.split(",") if p], args.out))
    return 0


def assemble(parts: Sequence[str], out: str) -> str:
    """Writes the new run and returns a line about it. Errors: UserError that names a part and its
    fault."""
    target = Path(out)
    if not out or target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UserError(
            f"out={out!r}: {'is empty' if not out else 'holds something already'}; give a new"
            " directory"
        )
    runs = check(parts, [read(p) for p in parts])
    unfinished = target.with_name(target.name + ".assembling")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        description = write(runs, Workdir(unfinished))
        unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return f"{target}: {counted(len(runs), 'expert')} {description}"


def read(part: str) -> Part:
    """Opens a part. Errors: UserError unless it trained one of several experts."""
    directory = Workdir(part)
    record = directory.read()
    experiment = build_experiment(record.config)
    experts = experts_of(experiment)
    if experts.n < 2 or experts.only < 0:
        fault = "has no experts" if experts.n < 2 else "trained all its experts together"
        raise UserError(
            f"parts={part!r}: {fault}; give runs that each trained one expert, with"
            " generator.experts.only"
        )
    return Part(directory, record, experiment)


def check(names: Sequence[str], runs: Sequence[Part]) -> list[Part]:
    """The parts in the order of their experts.

    Errors: UserError unless every expert has one part, and all parts have the same experiment,
    codec, scale of latents and text model."""
    if not runs:
        raise UserError(
            "parts='': is empty; give the workdirs of all experts' runs, joined by commas"
        )
    first = runs[0]
    by_expert: dict[int, Part] = {}
    for run in runs[1:]:
        difference = first_difference(shared_config(first), shared_config(run))
        if difference:
            field, ours, theirs = difference
            raise UserError(
                f"parts={run.name!r}: was trained with {field}={theirs!r}, {first.name} with"
                f" {ours!r}; train all parts with one experiment"
            )
        for key, noun in SAME.items():
            if getattr(run.record, key) != getattr(first.record, key):
                ours, theirs = (str(getattr(r.record, key))[:40] for r in (first, run))
                remedy = "give every part the codec.workdir and training.start_from of the others"
                raise UserError(
                    f"parts={run.name!r}: {noun} ({key}={theirs}) is not that of {first.name}"
                    f" ({ours}); {remedy}"
                )
    for run in runs:
        if run.only in by_expert:
            raise UserError(
                f"parts={run.name!r}: trained expert {run.only}, as {by_expert[run.only].name} did;"
                " give each expert once"
            )
        by_expert[run.only] = run
    n = experts_of(first.experiment).n
    missing = [k for k in range(n) if k not in by_expert]
    if missing:
        noun = "expert" if len(missing) == 1 else "experts"
        raise UserError(
            f"parts={','.join(names)!r}: {noun} {', '.join(map(str, missing))} of {n} missing; add"
            f" the run of generator.experts.only={missing[0]}"
        )
    return [by_expert[k] for k in range(n)]


def shared_config(part: Part) -> dict[str, Any]:
    """The config fields that must be equal in all parts: those that determine the results, except
    the expert."""
    config = run_identity(part.record.config)
    generator = dict(config["generator"])
    generator["experts"] = {k: v for k, v in generator["experts"].items() if k != "only"}
    return config | {"generator": generator}


def write(runs: Sequence[Part], out: Workdir) -> str:
    """Writes the new run's directory, with config.json last, and returns a description of it."""
    first = runs[0]
    program, config, remark = joined_program(first)
    state, data = stacked(runs, program)
    step = int(state.step)
    state = jax.device_put(state, program.state_sharding)
    data = {**data, "batch_size": config["training"]["batch_size"]}
    checkpoints = Checkpoints(out.checkpoints, digest=program.jit(digest))
    checkpoints.save(step, state, data)
    checkpoints.close()
    shutil.copyfile(first.directory.text_file, out.text_file)
    if not config["codec"].get("workdir") and first.directory.codec.is_dir():
        shutil.copytree(first.directory.codec, out.codec, ignore=shutil.ignore_patterns(".lock"))
        Workdir(out.codec).write(Workdir(first.directory.codec).read())
    record = dataclasses.replace(
        first.record,
        config=config,
        hash=program.experiment.hash,
        versions=versions(),
        commits=list(dict.fromkeys(c for r in runs for c in r.record.commits)),
        environments=(),
        other={},
    )
    out.write(record)
    total = config["training"]["steps"]
    unfinished = f" of {total} (the parts are unfinished)" if step < total else ""
    return f"at step {step}{unfinished}, {program.parameters:,} parameters{remark}"


def joined_program(first: Part) -> tuple[Program, dict[str, Any], str]:
    """The program of all experts on a host device, its config, and a remark for the user.

    The batch becomes n times as large where n experts do not divide it; the remark then says so."""
    stored, n = first.record.config, experts_of(first.experiment).n
    generator = {**stored["generator"], "experts": {**stored["generator"]["experts"], "only": -1}}
    training = {**stored["training"], "start_from": ""}
    config = {**stored, "generator": generator, "training": training}
    remark, size = "", training["batch_size"]
    try:
        experiment = build_experiment(config)
        Program(experiment, layout=fitting_layout(experiment))
    except UserError:  # a batch that n experts do not divide
        config["training"] = {**training, "batch_size": size * n}
        remark = (
            f"; {n} experts do not divide training.batch_size={size}: to train on, give {size * n}"
        )
        experiment = build_experiment(config)
    return host_program(experiment), dict(experiment.config), remark


def host_program(experiment: Experiment) -> Program:
    """The experiment's program on one device of the host, with the layout dp."""
    return Program(experiment, jax.devices("cpu")[:1], layout=parse_layout("dp"))


def stacked(runs: Sequence[Part], program: Program) -> tuple[Any, dict[str, Any]]:
    """The state of all experts as NumPy arrays, and the data position of the first part.

    An array that has an axis of experts in the new run is filled expert by expert. Every other
    array comes from the first part; those of the parameters and their average must be equal in all
    parts."""
    shapes, treedef = named_leaves(program.state_shape), jax.tree.structure(program.state_shape)
    arrays: dict[str, np.ndarray] = {}
    data: dict[str, Any] = {}
    for k, run in enumerate(runs):
        state, position = restore(run.directory, host_program(run.experiment))
        data = data or position
        for name, leaf in named_leaves(state).items():
            place(arrays, shapes, name, np.asarray(jax.device_get(leaf)), k, runs)
    unfilled = [
        name
        for name, shape in shapes.items()
        if name not in arrays or arrays[name].shape != shape.shape
    ]
    # An optimizer may keep the moments of stacked arrays in another form: it starts with new ones.
    if unfilled:
        params = jax.tree.unflatten(
            jax.tree.structure(program.state_shape.params),
            [arrays[k] for k in shapes if k.startswith("params/")],
        )
        moments = jax.device_get(program.jit(program.optimizer.init)(params))
        arrays |= {f"optimizer/{k}": v for k, v in named_leaves(moments).items()}
    return jax.tree.unflatten(treedef, [arrays[name] for name in shapes]), data


def place(
    arrays: dict[str, np.ndarray],
    shapes: Mapping[str, Any],
    name: str,
    value: np.ndarray,
    k: int,
    runs: Sequence[Part],
) -> None:
    """Puts expert k's array `name` into the new state. Errors: UserError for a step, or a parameter
    without an axis of experts, that differs from the first part's."""
    if name in shapes and shapes[name].shape == (len(runs), *value.shape):
        arrays.setdefault(name, np.empty(shapes[name].shape, value.dtype))[k] = value
    elif k == 0:
        arrays[name] = value
    elif name == "step" and value != arrays[name]:
        raise UserError(
            f"parts={runs[k].name!r}: is at step {value}, {runs[0].name} at {arrays[name]}; train"
            " both to one step"
        )
    elif name.startswith(("params/", "ema/")) and not np.array_equal(value, arrays[name]):
        raise UserError(
            f"parts={runs[k].name!r}: {name} is not that of {runs[0].name}, and experts share it;"
            " start every part from one dense run (training.start_from) with"
            " generator.experts.train_text=False"
        )
