"""The stages before a run's first update: the check of the workdirs that its config names, the
measurement of the scale of latents, and the initial state.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vilg import stage
from vilg.config import require
from vilg.experiment import Experiment
from vilg.parallel.processes import main_process_first
from vilg.program import Program
from vilg.training.checkpoint import Checkpoints
from vilg.training.log import say
from vilg.training.state import TrainState
from vilg.types import Params, UserError
from vilg.workdir.files import Workdir
from vilg.workdir.restore import codec_experiment, has_parameters, starting_params
from vilg.workdir.session import Session

MEASURED = 1024  # pictures on which the scale of latents is measured


def check_places(experiment: Experiment) -> None:
    """Errors: UserError where codec.workdir is no run of a codec, or training.start_from no run of
    the same kind of model.
    """
    for field, place in (
        ("codec.workdir", experiment.codec_workdir),
        ("training.start_from", experiment.start_from),
    ):
        if place and not Workdir(place).config_file.is_file():
            raise UserError(
                f"{field}={place!r}: holds no config.json, so it is no run; give the --workdir of"
                " `vilg train`, or ''"
            )
    if experiment.start_from:
        theirs = kind_of(Workdir(experiment.start_from).read().config)
        ours = kind_of(experiment.config)
        remedy = f"is a run of {theirs!r}, this one is of {ours!r}; give one of the same"
        require(theirs == ours, "training.start_from", experiment.start_from, remedy)
    if experiment.codec_workdir and has_parameters(experiment.image_codec):
        codec_experiment(experiment.codec_workdir)


def kind_of(config: Mapping[str, Any]) -> str:
    """The kind of model that a config trains: the name of its generator or ranker, or "codec"."""
    return (config.get("generator") or {}).get("name") or "codec"


def finished(checkpoints: Checkpoints, experiment: Experiment) -> bool:
    """Whether the last step of the experiment has a checkpoint."""
    steps = [s for s in checkpoints.steps() if (checkpoints.directory / str(s) / "meta").exists()]
    return bool(steps) and steps[-1] >= experiment.training.steps


def prepare_space(
    experiment: Experiment,
    program: Program,
    directory: Workdir,
    codec: Params,
    start: str,
    quiet: bool,
) -> Params:
    """The frozen parameters of the space in which the generator works. The scale of latents is the
    scale of the run from which training starts, or else is measured once; it is stored in
    config.json.

    Every process measures the scale on the same pictures, so that no process waits for a file.
    """
    scale = directory.read().latents
    if scale is None and experiment.space.scaled:
        scale = Workdir(start).read().latents if start else None
        if scale is None:
            stage.enter("measuring the scale of latents")
            size = -(-64 // program.batch_shards) * program.batch_shards
            batches = experiment.data.loader.once(
                experiment.data.train,
                None,
                image_size=experiment.image_codec.image_size,
                batch_size=size,
                limit=MEASURED,
            )
            session = Session(program, None, experiment.space.freeze(codec, None), None, 0)
            scale = experiment.space.measure(
                session.codes(np.concatenate([b["image"][b["valid"]] for b in batches]))
            )
            say(
                f"latents: mean {np.mean(scale['mean']):.3f}, standard deviation"
                f" {np.mean(scale['std']):.3f} over at most {MEASURED} pictures",
                quiet,
            )
        directory.update(latents=scale)
    return experiment.space.freeze(codec, scale)


def first_state(
    experiment: Experiment, program: Program, directory: Workdir, frozen: Params, start: str
) -> TrainState:
    """The state before the first update. Its parameters are initialized, or come from the run in
    the workdir `start`; a generator whose code embedding starts from the codec's vectors gets
    these.
    """
    state = program.init_state()
    params = state.params
    if start:
        params = program.upcycle(starting_params(start, program, directory.read().codec_hash))
        if "text" in experiment.model.inputs:
            main_process_first(
                f"ids of {directory.path}", lambda: directory.adopt_text_model(start)
            )
    if experiment.model.uses_code_vectors:
        params = program.with_code_vectors(params, frozen)
    return dataclasses.replace(
        state, params=params, ema=None if state.ema is None else jax.tree.map(jnp.copy, params)
    )
