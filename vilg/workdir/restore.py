"""Parameters from checkpoints: a run's own, its codec's, and those of the run that training starts
from.
"""

import dataclasses
import hashlib
import json
import os
from typing import Any

import jax

from vilg.experiment import Experiment, build_experiment
from vilg.parallel.layouts import parse_layout
from vilg.program import Program
from vilg.training.checkpoint import Checkpoints, digest, first_misfit, named_leaves
from vilg.types import Params, UserError
from vilg.workdir.files import Workdir


def codec_params(workdir: str | os.PathLike, program: Program) -> tuple[Params, str]:
    """(the parameters of the codec trained in a workdir, a hash of them), checked to be the codec
    that the program's experiment describes.

    A codec without parameters needs no run."""
    wanted: Any = program.experiment.image_codec
    if not has_parameters(wanted):
        return {}, "none"
    directory, experiment = Workdir(workdir), codec_experiment(workdir)
    found: Any = experiment.model
    if found != wanted:
        theirs, ours = (
            {f.name: getattr(c, f.name) for f in dataclasses.fields(c)} for c in (found, wanted)
        )
        names = [n for n in ours if theirs.get(n) != ours[n]]
        there, here = (
            ", ".join(f"{n}={fields.get(n)!r}" for n in names) for fields in (theirs, ours)
        )
        raise UserError(
            f"codec.workdir={str(workdir)!r}: its codec ({type(found).__name__},"
            f" {there}) is not the one that codec.experiment describes ({type(wanted).__name__},"
            f" {here}), so its codes are others; give the same tokenizer experiment in both"
        )
    codec_program = Program(
        experiment, program.mesh.devices.flatten().tolist(), layout=parse_layout("dp")
    )
    state, _ = restore(directory, codec_program)
    params = state.best_params
    return params, fingerprint(params, codec_program)


def codec_experiment(workdir: str | os.PathLike) -> Experiment:
    """The experiment of a codec's run. Errors: UserError for the run of anything else."""
    directory = Workdir(workdir)
    experiment = build_experiment(directory.read().config)
    if experiment.model.reads_codes:
        own = directory.path / (experiment.codec_workdir or "codec")
        there = (
            f"; its codec is in {own}"
            if (own / "config.json").is_file()
            else "; give the --workdir of a codec's run"
        )
        raise UserError(
            f"codec.workdir={str(workdir)!r}: is the run of a generator or ranker{there}"
        )
    return experiment


def has_parameters(codec: Any) -> bool:
    """Whether there is something to train in a codec."""
    return bool(jax.tree.leaves(jax.eval_shape(codec.init, jax.random.key(0))))


def fingerprint(params: Params, program: Program) -> str:
    """A hash of the parameters' values: a codec of the same config that was trained again has other
    codes.
    """
    sums = {k: int(v) for k, v in jax.device_get(program.jit(digest)(params)).items()}
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:16]


def starting_params(workdir: str | os.PathLike, program: Program, codec_hash: str | None) -> Params:
    """The newest parameters of another run, checked to fit the program's model and, for a
    generator, to speak of this codec's codes.
    """
    directory = Workdir(workdir)
    record = directory.read()
    devices = program.mesh.devices.flatten().tolist()
    other = Program(build_experiment(record.config), devices, layout=parse_layout("dp"))
    upcycled = jax.eval_shape(program.experiment.model.upcycle, other.state_shape.params)
    given, wanted = (
        {k: x.shape for k, x in named_leaves(p).items()}
        for p in (upcycled, program.state_shape.params)
    )
    misfit = first_misfit(given, wanted)
    if misfit:
        name, there, here = misfit
        raise UserError(
            f"training.start_from={str(workdir)!r}: its parameter {name} has shape {there}, this"
            f" model's has {here}; give a run of the same codec and generator sections"
        )
    if program.experiment.model.reads_codes and record.codec_hash != codec_hash:
        raise UserError(
            f"training.start_from={str(workdir)!r}: was trained on the codes of another tokenizer"
            f" ({record.codec_hash}, here {codec_hash}); give codec.workdir the one that it"
            " used"
        )
    return restore(directory, other)[0].best_params


def restore(directory: Workdir, program: Program, step: int | None = None) -> tuple[Any, dict]:
    """(state, data position) of the newest readable checkpoint; a UserError where there is none."""
    restored = None
    if directory.checkpoints.is_dir():
        checkpoints = Checkpoints(directory.checkpoints, digest=program.jit(digest), read_only=True)
        restored = checkpoints.restore(program.abstract_state, step)
        checkpoints.close()
    if restored is None:
        raise UserError(
            f"workdir={str(directory.path)!r}: has no checkpoint yet; let `vilg train` reach"
            " training.checkpoint_every"
        )
    return restored
