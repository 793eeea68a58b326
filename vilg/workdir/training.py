"""Training an experiment in a workdir, from nothing or from the newest readable checkpoint, its
codec and first part before it.
"""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from vilg.codecs.base import gate
from vilg.evals.caption_gap import CaptionGap
from vilg.evals.numbers import flat, numbers
from vilg.evals.reconstruction import Reconstruction
from vilg.experiment import Experiment, build_experiment
from vilg.parallel.layouts import parse_layout
from vilg.parallel.processes import is_main_process, main_process_first
from vilg.program import Program
from vilg.training.checkpoint import Checkpoints, digest
from vilg.training.log import RunLog, say
from vilg.training.loop import Periodic
from vilg.training.loop import train as loop
from vilg.types import Levelled, Params, UserError
from vilg.workdir.files import Workdir
from vilg.workdir.pictures import first_examples, illustrate
from vilg.workdir.profile import Profiled
from vilg.workdir.restore import codec_params, has_parameters
from vilg.workdir.session import Session
from vilg.workdir.start import check_places, finished, first_state, prepare_space

INPUTS = ("image", "text", "key", "region")  # what of a batch goes to the devices


def train(
    config: ConfigDict | Mapping[str, Any],
    workdir: str | os.PathLike,
    quiet: bool = False,
    title: str = "train",
    window: tuple[int, int] | None = None,
) -> None:
    """Trains an experiment in a workdir to its last step, resuming from the newest readable
    checkpoint. `window`: updates to be traced.
    """
    experiment = build_experiment(config)
    directory = Workdir(workdir)
    program = Program(experiment)
    if not directory.config_file.is_file():
        check_places(
            experiment
        )  # before the directory is this run's: a mistake leaves nothing behind
    with directory.locked():
        main_process_first(f"open {workdir}", lambda: directory.open(experiment))
        checkpoints = Checkpoints(
            directory.checkpoints,
            experiment.training.keep_last,
            experiment.training.keep_best,
            digest=program.jit(digest),
        )
        with contextlib.closing(checkpoints):
            if finished(checkpoints, experiment):
                say(f"{workdir}: finished at step {experiment.training.steps}", quiet)
                return
            check_places(experiment)
            for evaluator in (
                experiment.evals.values() if experiment.training.evaluate_every else ()
            ):
                # a suite of prompts whose file is not here is said before anything is trained
                evaluator.protocol()
            codec = (
                None
                if experiment.generator is None
                else prepare_codec(experiment, program, directory, quiet)
            )
            start = (
                ""
                if checkpoints.steps()
                else experiment.start_from or prepare_start(experiment, directory, quiet)
            )
            frozen = (
                None
                if experiment.generator is None
                else prepare_space(experiment, program, directory, codec, start, quiet)
            )
            run(experiment, program, directory, checkpoints, frozen, start, quiet, title, window)


def prepare_codec(
    experiment: Experiment, program: Program, directory: Workdir, quiet: bool
) -> Params:
    """The codec's parameters: trained here if no codec.workdir is given, and good enough to start
    on (the config's floors).
    """
    given, floors = experiment.codec_workdir, experiment.config["codec"].get("floors") or {}
    if not has_parameters(experiment.codec):
        gate({}, floors)  # nothing is asked of a codec that has nothing to learn
        return {}
    if not given:
        train(experiment.codec_experiment.config, directory.codec, quiet, title="codec")
    frozen, codec_hash = codec_params(given or directory.codec, program)
    stored = directory.read()
    if stored.get("codec_hash", codec_hash) != codec_hash:
        raise UserError(
            f"codec.workdir={given!r}: the run was started on codec {stored['codec_hash']}, this"
            f" one is {codec_hash}; give the original"
        )
    if "codec" not in stored:
        alone = Program(
            dataclasses.replace(experiment, generator=None),
            program.mesh.devices.flatten().tolist(),
            layout=parse_layout("dp"),
        )
        reached = Reconstruction(images=256)(Session(alone, frozen, frozen, None, 0))
        gate(reached, floors)
        directory.write(stored | {"codec_hash": codec_hash, "codec": reached})
        say(f"codec: {', '.join(f'{k} {v:.3f}' for k, v in reached.items())}", quiet)
    return frozen


def prepare_start(experiment: Experiment, directory: Workdir, quiet: bool) -> str:
    """The workdir of the experiment that comes first, trained on the same codec; "" where there is
    none.
    """
    if experiment.first is None:
        return ""
    config = dict(experiment.first.config)
    if experiment.generator is not None:
        config["codec"] = {
            **config["codec"],
            "workdir": experiment.codec_workdir or str(directory.codec),
        }
    train(config, directory.first, quiet, title="first")
    return str(directory.first)


def run(
    experiment: Experiment,
    program: Program,
    directory: Workdir,
    checkpoints: Checkpoints,
    frozen: Params,
    start: str,
    quiet: bool,
    title: str,
    window: tuple[int, int] | None = None,
) -> None:
    """From the restored or initial state to the last step."""
    training = experiment.training
    restored = checkpoints.restore(program.abstract_state)
    state, position = restored or (first_state(experiment, program, directory, frozen, start), None)
    text_model = None
    if experiment.generator is not None:
        text_model = main_process_first(
            f"text model of {directory.path}", lambda: directory.text_model(experiment)
        )
    stream = experiment.data.loader.stream(
        experiment.data.train,
        text_model,
        image_size=experiment.codec.image_size,
        text_length=experiment.data.text.length,
        batch_size=training.batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        knowledge=experiment.data.knowledge,
        grid=experiment.codec.grid,
    )
    if position is not None:
        stream.set_state(position)
        say(f"{directory.path}: goes on from step {int(state.step)}", quiet)
    else:
        if start:
            say(f"{directory.path}: starts from the parameters of {start}", quiet)
        say(
            f"{directory.path}: {program.parameters:,} parameters, layout {program.layout.name} on"
            f" {program.mesh.size} device(s)",
            quiet,
        )
    if is_main_process():
        overview = parameter_overview.get_parameter_overview(
            program.abstract_state.params, include_stats="sharding"
        )
        directory.parameters.write_text(
            f"layout {program.layout.name} on {program.mesh.size} device(s)\n{overview}\n"
        )
    main_process_first(f"circumstances of {directory.path}", directory.note_circumstances)
    log = (
        RunLog(directory.path, training.steps, int(state.step), training.batch_size, quiet, title)
        if is_main_process()
        else None
    )

    def place(batch: dict) -> dict:
        return program.place({k: batch[k] for k in INPUTS if k in batch})

    def session(state: Any) -> Session:
        return Session(
            program,
            state.best_params,
            state.best_params if frozen is None else frozen,
            text_model,
            int(state.step),
        )

    def evaluate(state: Any, step: int) -> dict[str, float]:
        return numbers(experiment.evals, session(state))

    def draw(state: Any, step: int) -> dict[str, float]:
        examples = first_examples(experiment, text_model)
        image, captions = illustrate(session(state), examples)
        if log is not None:
            directory.samples.mkdir(exist_ok=True)
            with (directory.samples / f"step_{step:07d}.png").open("wb") as file:
                image.save(file, "PNG")
            log.image("samples", np.asarray(image), step)
            if captions:
                (directory.samples / f"step_{step:07d}.txt").write_text("\n".join(captions) + "\n")
                log.text("captions", "\n\n".join(captions), step)
        return {}

    def gap(state: Any, step: int) -> dict[str, float]:
        figures = CaptionGap()(session(state))
        if is_main_process():
            directory.caption_gap.write_text(json.dumps(figures, indent=1))
        return flat(figures)

    periodic = [
        Periodic(training.evaluate_every, "valid/", evaluate),
        Periodic(training.sample_every, "", draw),
    ]
    if isinstance(experiment.generator, Levelled):
        periodic.append(Periodic(training.steps, "caption_gap/", gap))

    def update(state: Any, batch: dict) -> tuple[Any, dict]:
        return program.train_step(state, batch, frozen)

    profiled = Profiled(update, window, directory.profile, int(state.step)) if window else None
    began = time.time()
    try:
        loop(
            state,
            profiled or update,
            stream,
            place,
            checkpoints,
            log,
            steps=training.steps,
            log_every=training.log_every,
            checkpoint_every=training.checkpoint_every,
            periodic=periodic,
        )
    finally:
        if profiled:
            profiled.close()
        stream.close()
        if log is not None:
            log.close()
    say(f"{directory.path}: step {training.steps} reached in {time.time() - began:.0f} s", quiet)
