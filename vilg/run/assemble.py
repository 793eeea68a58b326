"""vilg assemble: one run of the runs that each trained one expert (generator.experts.only).

The parts must be one experiment but for that field, with one text encoder, codec and scale of
latents, at one step. Parameters, their moving average and the optimizer's moments are stacked
expert by expert on the host, so that no device has to hold them; the new run is sampled, evaluated
and trained on like one that trained all its experts itself."""

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
    """The experts of the experiment's model; one where it has none."""
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
        """The directory."""
        return str(self.directory.path)

    @property
    def only(self) -> int:
        """Its expert."""
        return experts_of(self.experiment).only


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument(
        "--parts",
        required=True,
        metavar="DIR0,DIR1,...",
        help="the workdirs of all experts' runs, joined by commas",
    )
    parser.add_argument(
        "--out", required=True, help="directory of the new run; must not hold anything"
    )


def main(args: argparse.Namespace, config: object) -> int:
    """Assembles."""
    print(assemble([p for p in args.parts.split(",") if p], args.out))
    return 0


def assemble(parts: Sequence[str], out: str) -> str:
    """Writes the run; a line about it. Errors: UserError naming the part and what is wrong with
    it.
    """
    place = Path(out)
    if not out or place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise UserError(
            f"out={out!r}: {'is empty' if not out else 'holds something already'}; give a new"
            " directory"
        )
    runs = check(parts, [read(p) for p in parts])
    made = place.with_name(place.name + ".assembling")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        said = write(runs, Workdir(made))
        made.replace(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return f"{place}: {counted(len(runs), 'expert')} {said}"


def read(part: str) -> Part:
    """A part. Errors: UserError unless it trained one expert of several."""
    directory = Workdir(part)
    record = directory.read()
    experiment = build_experiment(record.config)
    experts = experts_of(experiment)
    if experts.n < 2 or experts.only < 0:
        what = "has no experts" if experts.n < 2 else "trained all its experts together"
        raise UserError(
            f"parts={part!r}: {what}; give runs that each trained one, with generator.experts.only"
        )
    return Part(directory, record, experiment)


def check(names: Sequence[str], runs: Sequence[Part]) -> list[Part]:
    """The parts in the order of their experts. Errors: UserError unless they are all there, once,
    of one experiment and codec.
    """
    if not runs:
        raise UserError(
            "parts='': is empty; give the workdirs of all experts' runs, joined by commas"
        )
    first, found = runs[0], {}
    for run in runs[1:]:
        difference = first_difference(shared_config(first), shared_config(run))
        if difference:
            field, ours, theirs = difference
            raise UserError(
                f"parts={run.name!r}: was trained with {field}={theirs!r}, {first.name} with"
                f" {ours!r}; train one experiment"
            )
        for key, what in SAME.items():
            if getattr(run.record, key) != getattr(first.record, key):
                ours, theirs = (str(getattr(r.record, key))[:40] for r in (first, run))
                remedy = "give every part the codec.workdir and training.start_from of the others"
                raise UserError(
                    f"parts={run.name!r}: {what} ({key}={theirs}) is not that of {first.name}"
                    f" ({ours}); {remedy}"
                )
    for run in runs:
        if run.only in found:
            raise UserError(
                f"parts={run.name!r}: is expert {run.only}, as {found[run.only].name} is; give each"
                " expert once"
            )
        found[run.only] = run
    n = experts_of(first.experiment).n
    missing = [k for k in range(n) if k not in found]
    if missing:
        told = (
            f"{'expert' if len(missing) == 1 else 'experts'} {', '.join(map(str, missing))} of {n}"
        )
        raise UserError(
            f"parts={','.join(names)!r}: {told} missing; add the run of"
            f" generator.experts.only={missing[0]}"
        )
    return [found[k] for k in range(n)]


def shared_config(part: Part) -> dict[str, Any]:
    """What must be equal: what decides the results, but for the expert."""
    config = run_identity(part.record.config)
    generator = dict(config["generator"])
    generator["experts"] = {k: v for k, v in generator["experts"].items() if k != "only"}
    return config | {"generator": generator}


def write(runs: Sequence[Part], out: Workdir) -> str:
    """The new run's directory, config.json last; what was done, in words."""
    first = runs[0]
    program, config, said = joined_program(first)
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
    return f"at step {step}{unfinished}, {program.parameters:,} parameters{said}"


def joined_program(first: Part) -> tuple[Program, dict[str, Any], str]:
    """The experiment of all experts on a host device, its config, and a remark: a batch is n times
    as large where n does not divide it.
    """
    stored, n = first.record.config, experts_of(first.experiment).n
    generator = {**stored["generator"], "experts": {**stored["generator"]["experts"], "only": -1}}
    training = {**stored["training"], "start_from": ""}
    config = {**stored, "generator": generator, "training": training}
    said, size = "", training["batch_size"]
    try:
        experiment = build_experiment(config)
        Program(experiment, layout=fitting_layout(experiment))
    except UserError:  # a batch that n experts do not divide
        config["training"] = {**training, "batch_size": size * n}
        said = (
            f"; {n} experts do not divide training.batch_size={size}: to train on, give {size * n}"
        )
        experiment = build_experiment(config)
    return host_program(experiment), dict(experiment.config), said


def host_program(experiment: Experiment) -> Program:
    """On one host device, whatever the layout was."""
    return Program(experiment, jax.devices("cpu")[:1], layout=parse_layout("dp"))


def stacked(runs: Sequence[Part], program: Program) -> tuple[Any, dict[str, Any]]:
    """(the state of all experts in NumPy, the first part's data position). Where an array has an
    axis of experts in the new run it is filled expert by expert; the others are the parts' own, and
    those of the model must be equal."""
    wanted, treedef = named_leaves(program.state_shape), jax.tree.structure(program.state_shape)
    whole: dict[str, np.ndarray] = {}
    data: dict[str, Any] = {}
    for k, run in enumerate(runs):
        state, position = restore(run.directory, host_program(run.experiment))
        data = data or position
        for name, leaf in named_leaves(state).items():
            place(whole, wanted, name, np.asarray(jax.device_get(leaf)), k, runs)
    odd = [
        name
        for name, shape in wanted.items()
        if name not in whole or whole[name].shape != shape.shape
    ]
    if odd:  # moments that an optimizer keeps in another form for stacked arrays: it starts anew
        params = jax.tree.unflatten(
            jax.tree.structure(program.state_shape.params),
            [whole[k] for k in wanted if k.startswith("params/")],
        )
        moments = jax.device_get(program.jit(program.optimizer.init)(params))
        whole |= {f"optimizer/{k}": v for k, v in named_leaves(moments).items()}
    return jax.tree.unflatten(treedef, [whole[name] for name in wanted]), data


def place(
    whole: dict[str, np.ndarray],
    wanted: Mapping[str, Any],
    name: str,
    value: np.ndarray,
    k: int,
    runs: Sequence[Part],
) -> None:
    """Puts expert k's array where it belongs. Errors: UserError for a step or an array outside the
    denoiser that is not the other parts'.
    """
    if name in wanted and wanted[name].shape == (len(runs), *value.shape):
        whole.setdefault(name, np.empty(wanted[name].shape, value.dtype))[k] = value
    elif k == 0:
        whole[name] = value
    elif name == "step" and value != whole[name]:
        raise UserError(
            f"parts={runs[k].name!r}: is at step {value}, {runs[0].name} at {whole[name]}; train"
            " both to one step"
        )
    elif name.startswith(("params/", "ema/")) and not np.array_equal(value, whole[name]):
        raise UserError(
            f"parts={runs[k].name!r}: {name} is not that of {runs[0].name}, and experts share it;"
            " start every part from one dense run (training.start_from) with"
            " generator.experts.train_text=False"
        )
