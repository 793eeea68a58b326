"""Parameters from checkpoints: the parameters of a run, of its codec, and of the run from which
training starts.
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
    """The parameters of the codec that was trained in a workdir, and their hash. A codec without
    parameters needs no workdir.

    Errors: UserError unless the codec is the one that the program's experiment describes.
    """
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
    """The experiment of a codec's run. Errors: UserError for the run of a generator or ranker."""
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
    """Whether a codec has parameters, and so must be trained."""
    return bool(jax.tree.leaves(jax.eval_shape(codec.init, jax.random.key(0))))


def fingerprint(params: Params, program: Program) -> str:
    """A hash of the values of parameters. It tells apart two codecs of the same config that were
    trained separately, and whose codes differ for that reason.
    """
    sums = {k: int(v) for k, v in jax.device_get(program.jit(digest)(params)).items()}
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:16]


def starting_params(workdir: str | os.PathLike, program: Program, codec_hash: str | None) -> Params:
    """The newest parameters of another run.

    Errors: UserError unless the parameters have the shapes of the program's model and, for a model
    that reads codes, were trained on the codes of the codec with the hash `codec_hash`.
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
    """The (state, data position) of the newest readable checkpoint, or of `step`. Errors: UserError
    where there is none.
    """
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
