"""Training of an experiment in a workdir, from the initial state or from the newest readable
checkpoint.

An experiment may need other runs before its own: the run of its codec (in WORKDIR/codec) and the
run of training.first (in WORKDIR/first). `train` calls itself for these, so that one command trains
any experiment, and the same command resumes an interrupted one.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping

from ml_collections import ConfigDict

from vilg import stage
from vilg.codecs.base import check_floors
from vilg.evals.reconstruction import Reconstruction
from vilg.experiment import Experiment, build_experiment
from vilg.parallel.layouts import parse_layout
from vilg.parallel.processes import main_process_first
from vilg.program import Program
from vilg.training.checkpoint import Checkpoints, digest
from vilg.training.log import say
from vilg.training.loop import train as loop
from vilg.training.state import TrainState
from vilg.types import Params, UserError
from vilg.workdir.files import Workdir
from vilg.workdir.profile import Profiled
from vilg.workdir.restore import codec_params, has_parameters
from vilg.workdir.session import Session
from vilg.workdir.start import check_places, finished, first_state, prepare_space
from vilg.workdir.training_run import TrainingRun


def train(
    config: ConfigDict | Mapping[str, object],
    workdir: str | os.PathLike,
    quiet: bool = False,
    title: str = "train",
    window: tuple[int, int] | None = None,
) -> None:
    """Trains an experiment in a workdir to its last step, from the newest readable checkpoint if
    there is one. `window` is the (first, last) update of a trace by the profiler.
    """
    experiment = build_experiment(config)
    directory = Workdir(workdir)
    program = Program(experiment)
    if not directory.config_file.is_file():
        # before the directory is this run's: a mistake leaves nothing behind
        check_places(experiment)
    with directory.locked():
        main_process_first(f"open {workdir}", lambda: directory.open(experiment))
        keep = experiment.training.keep_last, experiment.training.keep_best
        checkpoints = Checkpoints(directory.checkpoints, *keep, digest=program.jit(digest))
        with contextlib.closing(checkpoints):
            if finished(checkpoints, experiment):
                say(f"{workdir}: finished at step {experiment.training.steps}", quiet)
                return
            check_places(experiment)
            if experiment.training.evaluate_every:
                for evaluator in experiment.evals.values():
                    # a suite of prompts whose file is not here is said before any training
                    evaluator.protocol()
            stage.enter(f"preparing {workdir}")
            frozen, start = prepare(experiment, program, directory, checkpoints, quiet)
            run = TrainingRun(experiment, program, directory, frozen, quiet, title)
            train_run(run, checkpoints, start, window)


def prepare(
    experiment: Experiment,
    program: Program,
    directory: Workdir,
    checkpoints: Checkpoints,
    quiet: bool,
) -> tuple[Params, str]:
    """Trains the runs that this run needs, and returns the frozen parameters that the model's
    updates read, and the workdir from whose parameters training starts (or "").
    """
    reads_codes = experiment.model.reads_codes
    codec = prepare_codec(experiment, program, directory, quiet) if reads_codes else None
    start = ""
    if not checkpoints.steps():
        start = experiment.start_from or prepare_start(experiment, directory, quiet)
    if not reads_codes:
        return None, start
    return prepare_space(experiment, program, directory, codec, start, quiet), start


def prepare_codec(
    experiment: Experiment, program: Program, directory: Workdir, quiet: bool
) -> Params:
    """The codec's parameters, from codec.workdir or from a run that is trained here. Errors:
    UserError where the codec's reconstruction is worse than codec.floors.
    """
    given, floors = experiment.codec_workdir, experiment.config["codec"].get("floors") or {}
    if not has_parameters(experiment.image_codec):
        check_floors({}, floors)  # a codec without parameters has no scores
        return {}
    if not given:
        train(experiment.codec_config, directory.codec, quiet, title="codec")
    frozen, codec_hash = codec_params(given or directory.codec, program)
    record = directory.read()
    if record.codec_hash not in (None, codec_hash):
        raise UserError(
            f"codec.workdir={given!r}: the run was started on codec {record.codec_hash}, this one"
            f" is {codec_hash}; give the original"
        )
    if record.codec is None:
        stage.enter("measuring the codec")
        alone = dataclasses.replace(experiment, model=experiment.image_codec, codec=None)
        devices = program.mesh.devices.flatten().tolist()
        codec_program = Program(alone, devices, layout=parse_layout("dp"))
        reached = Reconstruction(images=256)(Session(codec_program, frozen, frozen, None, 0))
        check_floors(reached, floors)
        directory.update(codec_hash=codec_hash, codec=reached)
        say(f"codec: {', '.join(f'{k} {v:.3f}' for k, v in reached.items())}", quiet)
    return frozen


def prepare_start(experiment: Experiment, directory: Workdir, quiet: bool) -> str:
    """Trains the experiment of training.first on the same codec and returns its workdir, or returns
    "" where the experiment has no training.first.
    """
    if experiment.first is None:
        return ""
    config = dict(experiment.first.config)
    if experiment.model.reads_codes:
        place = experiment.codec_workdir or str(directory.codec)
        config["codec"] = {**config["codec"], "workdir": place}
    train(config, directory.first, quiet, title="first")
    return str(directory.first)


def train_run(
    run: TrainingRun, checkpoints: Checkpoints, start: str, window: tuple[int, int] | None
) -> None:
    """Restores or initializes the state, and trains to the last step."""
    experiment, program, directory = run.experiment, run.program, run.directory
    restored = checkpoints.restore(program.abstract_state)
    state, position = restored or (
        first_state(experiment, program, directory, run.frozen, start),
        None,
    )
    run.open_text_model()
    stream = run.batches()
    if position is not None:
        stream.set_state(position)
    run.announce(state, restored is not None, start)
    log = run.open_log(int(state.step))

    def update(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        return program.train_step(state, batch, run.frozen)

    stage.enter("training (the first update compiles its program)")
    profiled = Profiled(update, window, directory.profile, int(state.step)) if window else None
    began = time.time()
    try:
        loop(
            state,
            profiled or update,
            stream,
            run.place,
            checkpoints,
            log,
            steps=experiment.training.steps,
            log_every=experiment.training.log_every,
            checkpoint_every=experiment.training.checkpoint_every,
            periodic=run.periodic(),
        )
    finally:
        if profiled:
            profiled.close()
        stream.close()
        if log is not None:
            log.close()
    run.write_model_card()
    reached = f"step {experiment.training.steps} reached in {time.time() - began:.0f} s"
    say(f"{directory.path}: {reached}", run.quiet)
