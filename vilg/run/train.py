"""vilg train: starts a run, or goes on with the one in the workdir.

With codec.workdir empty the codec that the experiment names is trained first, into WORKDIR/codec, and so is training.first, into
WORKDIR/first, so that one command trains any experiment from nothing. SIGTERM saves and exits with 75; the same command goes on from there.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from vilg.codecs.base import gate
from vilg.config import require
from vilg.evals.caption_gap import CaptionGap
from vilg.evals.reconstruction import Reconstruction
from vilg.experiment import Experiment, build_experiment
from vilg.generators.guidance import Controls
from vilg.parallel.flags import FLAG_SETS, ask_for_flags
from vilg.parallel.layouts import parse_layout
from vilg.parallel.processes import first_before_others, is_first, join
from vilg.program import Program
from vilg.report.grids import grid
from vilg.run.profile import Profiled, parse_window
from vilg.run.session import Session, codec_experiment, codec_params, has_parameters, starting_params
from vilg.run.workdir import Workdir
from vilg.training.checkpoint import Checkpoints, digest
from vilg.training.log import RunLog
from vilg.training.loop import Periodic
from vilg.training.loop import train as loop
from vilg.training.state import TrainState
from vilg.types import Adopter, Captioner, Growing, Levelled, Params, UserError

SHOWN = 16  # pictures in a grid that training draws
MEASURED = 1024  # pictures that the scale of latents is measured on
INPUTS = ("image", "text", "key", "region")  # what of a batch goes to the devices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options; --config is shared by all verbs that take one."""
    parser.add_argument("--workdir", required=True, help="directory of the run; holds config.json, checkpoints/, metrics.jsonl, samples/")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    parser.add_argument(
        "--profile", default="", metavar="START:STOP", help="traces these updates into WORKDIR/profile (TensorBoard, Perfetto)"
    )
    parser.add_argument("--flags", default="", metavar="NAMES", help=f"sets of XLA's flags, joined by commas: {', '.join(FLAG_SETS)}")


def main(args: argparse.Namespace, config: Any) -> int:
    """Trains; exit code 0 when all steps are done."""
    if config is None:
        raise UserError("--config is missing: give --config=FILE.py[:size], such as experiments/ernie_vilg.py:tiny")
    ask_for_flags(args.flags)
    window = parse_window(args.profile)
    join()
    train(config, args.workdir, quiet=args.quiet, window=window)
    return 0


def train(
    config: ConfigDict | Mapping[str, Any],
    workdir: str | os.PathLike,
    quiet: bool = False,
    title: str = "train",
    window: tuple[int, int] | None = None,
) -> None:
    """Trains an experiment in a workdir to its last step, resuming from the newest readable checkpoint. `window`: updates to be traced."""
    experiment = build_experiment(config)
    directory = Workdir(workdir)
    program = Program(experiment)
    if not directory.config_file.is_file():
        check_places(experiment)  # before the directory is this run's: a mistake leaves nothing behind
    with directory.locked():
        first_before_others(f"open {workdir}", lambda: directory.open(experiment))
        checkpoints = Checkpoints(
            directory.checkpoints, experiment.training.keep_last, experiment.training.keep_best, digest=program.jit(digest)
        )
        with contextlib.closing(checkpoints):
            if finished(checkpoints, experiment):
                say(f"{workdir}: finished at step {experiment.training.steps}", quiet)
                return
            check_places(experiment)
            for evaluator in experiment.evals.values() if experiment.training.evaluate_every else ():
                evaluator.protocol()  # a suite of prompts whose file is not here is said before anything is trained
            codec = None if experiment.generator is None else prepare_codec(experiment, program, directory, quiet)
            start = "" if checkpoints.steps() else experiment.start_from or prepare_start(experiment, directory, quiet)
            frozen = None if experiment.generator is None else prepare_space(experiment, program, directory, codec, start, quiet)
            run(experiment, program, directory, checkpoints, frozen, start, quiet, title, window)


def check_places(experiment: Experiment) -> None:
    """Errors: UserError for a codec's run, or one to start from, that is none."""
    for field, place in (("codec.workdir", experiment.codec_workdir), ("training.start_from", experiment.start_from)):
        if place and not Workdir(place).config_file.is_file():
            raise UserError(f"{field}={place!r}: holds no config.json, so it is no run; give the --workdir of `vilg train`, or ''")
    if experiment.start_from:
        theirs, ours = (kind_of(config) for config in (Workdir(experiment.start_from).read()["config"], experiment.config))
        remedy = f"is a run of {theirs!r}, this one is of {ours!r}; give one of the same"
        require(theirs == ours, "training.start_from", experiment.start_from, remedy)
    if experiment.codec_workdir and has_parameters(experiment.codec):
        codec_experiment(experiment.codec_workdir)


def kind_of(config: Mapping[str, Any]) -> str:
    """What a run trains: the name of its generator or ranker, or "codec"."""
    return (config.get("generator") or {}).get("name") or "codec"


def finished(checkpoints: Checkpoints, experiment: Experiment) -> bool:
    """Whether the last step has a checkpoint."""
    steps = [s for s in checkpoints.steps() if (checkpoints.directory / str(s) / "meta").exists()]
    return bool(steps) and steps[-1] >= experiment.training.steps


def prepare_codec(experiment: Experiment, program: Program, directory: Workdir, quiet: bool) -> Params:
    """The codec's parameters: trained here if no codec.workdir is given, and good enough to start on (the config's floors)."""
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
            f"codec.workdir={given!r}: the run was started on codec {stored['codec_hash']}, this one is {codec_hash}; give the original"
        )
    if "codec" not in stored:
        alone = Program(dataclasses.replace(experiment, generator=None), program.mesh.devices.flatten().tolist(), layout=parse_layout("dp"))
        reached = Reconstruction(images=256)(Session(alone, frozen, frozen, None, 0))
        gate(reached, floors)
        directory.write(stored | {"codec_hash": codec_hash, "codec": reached})
        say(f"codec: {', '.join(f'{k} {v:.3f}' for k, v in reached.items())}", quiet)
    return frozen


def prepare_space(experiment: Experiment, program: Program, directory: Workdir, codec: Params, start: str, quiet: bool) -> Params:
    """The frozen parameters of the generator's space. The scale of latents is the starting run's, else measured here once, and stored.

    Every process measures the same, so that none waits for a file of another's."""
    scale = directory.read().get("latents")
    if scale is None and experiment.space.scaled:
        scale = Workdir(start).read().get("latents") if start else None
        if scale is None:
            size = -(-64 // program.batch_shards) * program.batch_shards
            batches = experiment.data.loader.once(
                experiment.data.train, None, image_size=experiment.codec.image_size, batch_size=size, limit=MEASURED
            )
            session = Session(program, None, experiment.space.freeze(codec, None), None, 0)
            scale = experiment.space.measure(session.codes(np.concatenate([b["image"][b["valid"]] for b in batches])))
            say(
                f"latents: mean {np.mean(scale['mean']):.3f}, standard deviation {np.mean(scale['std']):.3f} over at most {MEASURED} pictures",
                quiet,
            )
        directory.write(directory.read() | {"latents": scale})
    return experiment.space.freeze(codec, scale)


def prepare_start(experiment: Experiment, directory: Workdir, quiet: bool) -> str:
    """The workdir of the experiment that comes first, trained on the same codec; "" where there is none."""
    if experiment.first is None:
        return ""
    config = dict(experiment.first.config)
    if experiment.generator is not None:
        config["codec"] = {**config["codec"], "workdir": experiment.codec_workdir or str(directory.codec)}
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
        text_model = first_before_others(f"text model of {directory.path}", lambda: directory.text_model(experiment))
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
        say(f"{directory.path}: {program.parameters:,} parameters, layout {program.layout.name} on {program.mesh.size} device(s)", quiet)
    if is_first():
        overview = parameter_overview.get_parameter_overview(program.abstract_state.params, include_stats="sharding")
        directory.parameters.write_text(f"layout {program.layout.name} on {program.mesh.size} device(s)\n{overview}\n")
    first_before_others(f"circumstances of {directory.path}", directory.note_circumstances)
    log = RunLog(directory.path, training.steps, int(state.step), training.batch_size, quiet, title) if is_first() else None

    def place(batch: dict) -> dict:
        return program.place({k: batch[k] for k in INPUTS if k in batch})

    def session(state: Any) -> Session:
        return Session(program, state.best_params, state.best_params if frozen is None else frozen, text_model, int(state.step))

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
        if is_first():
            directory.caption_gap.write_text(json.dumps(figures, indent=1))
        return flat(figures)

    periodic = [Periodic(training.evaluate_every, "valid/", evaluate), Periodic(training.sample_every, "", draw)]
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


def first_state(experiment: Experiment, program: Program, directory: Workdir, frozen: Params, start: str) -> TrainState:
    """The state before the first update: from nothing or another run, with the codec's vectors where the generator builds on them."""
    state = program.init_state()
    params = state.params
    if start:
        given = starting_params(start, program, directory.read().get("codec_hash"))
        growing = isinstance(experiment.generator, Growing)
        params = program.grow(given) if growing else jax.device_put(given, program.state_sharding.params)
        if experiment.generator is not None:
            first_before_others(f"ids of {directory.path}", lambda: directory.adopt_text_model(start))
    if isinstance(experiment.generator, Adopter):
        params = program.adopt(params, frozen)
    return dataclasses.replace(state, params=params, ema=None if state.ema is None else jax.tree.map(jnp.copy, params))


def numbers(evals: Mapping[str, Any], subject: Any) -> dict[str, float]:
    """What all evaluators say of a subject. A group of one (by_language) does not replace that of another."""
    return {k: v for evaluate in evals.values() for k, v in flat(evaluate(subject)).items()}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers as a/b names; what is not a number stays out."""
    out: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            out[f"{prefix}{key}"] = float(value)
    return out


def first_examples(experiment: Experiment, text_model: Any) -> dict[str, Any]:
    """The first validation records, as one batch."""
    stream = experiment.data.loader.once(
        experiment.data.valid,
        text_model,
        image_size=experiment.codec.image_size,
        text_length=experiment.data.text.length,
        batch_size=min(SHOWN, len(experiment.data.valid)),
        limit=SHOWN,
    )
    return next(iter(stream))


def illustrate(session: Session, examples: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A grid of originals above reconstructions (a codec) or samples of their captions (a generator), and the captions of both kinds."""
    images = examples["image"]
    if session.experiment.generator is None:
        return grid(np.concatenate([images, session.pictures(session.codes(images))]), columns=len(images)), []
    made = session.sample(examples["captions"], session.experiment.controls, 0, examples["language"])
    lines = list(examples["captions"])
    if isinstance(session.experiment.generator, Captioner):
        captions = session.caption(images, examples["language"], Controls(temperature=0.0))
        lines = [f"{prompt} | {caption.text}" for prompt, caption in zip(lines, captions, strict=True)]
    return grid(np.concatenate([images, np.stack([m.image for m in made])]), columns=len(images)), lines


def say(text: str, quiet: bool) -> None:
    """A line for people."""
    if not quiet and is_first():
        print(text, file=sys.stderr, flush=True)
