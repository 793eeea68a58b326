"""One training run in its workdir: its batches, its log, and its periodic evaluations and pictures.

Separate from training.py, which holds the order in which a run begins and ends; the loop calls the
functions of this module many times.
"""

import json
from typing import Any

import jax
import numpy as np
from clu import parameter_overview

from vilg import stage
from vilg.data.stream import Stream
from vilg.data.text import TextModel
from vilg.evals.caption_gap import CaptionGap
from vilg.evals.numbers import flat, flat_results, results_of
from vilg.experiment import Experiment
from vilg.parallel.processes import is_main_process, main_process_first
from vilg.program import Program
from vilg.training.log import RunLog, say
from vilg.training.loop import Periodic
from vilg.training.state import TrainState
from vilg.types import Batch, NoiseConditional, Params
from vilg.workdir.files import Workdir
from vilg.workdir.model_card import Card, write_model_card
from vilg.workdir.pictures import first_examples, illustrate
from vilg.workdir.session import Session


class TrainingRun:
    """The training of an experiment in a workdir. `frozen` holds the parameters that updates read
    and do not change: the codec's parameters with the scale of latents, or None in the run of a
    codec.
    """

    def __init__(
        self,
        experiment: Experiment,
        program: Program,
        directory: Workdir,
        frozen: Params,
        quiet: bool,
        title: str,
    ):
        self.experiment, self.program, self.directory = experiment, program, directory
        self.frozen, self.quiet, self.title = frozen, quiet, title
        self.text_model: TextModel | None = None
        self.log: RunLog | None = None
        self.results: dict[str, Any] = {}  # of each evaluator, at the last evaluation

    def open_text_model(self) -> None:
        """Reads the run's text model, or trains it, where the model reads texts."""
        if "text" in self.experiment.model.inputs:
            self.text_model = main_process_first(
                f"text model of {self.directory.path}",
                lambda: self.directory.text_model(self.experiment),
            )

    def batches(self) -> Stream:
        """The rows of this process of the training batches, without an end."""
        experiment = self.experiment
        return experiment.data.loader.stream(
            experiment.data.train,
            self.text_model,
            image_size=experiment.image_codec.image_size,
            text_length=experiment.data.text.length,
            batch_size=experiment.training.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            knowledge=experiment.data.knowledge,
            grid=experiment.image_codec.grid,
        )

    def announce(self, state: TrainState, restored: bool, start: str) -> None:
        """Prints the step from which the run starts, and writes parameters.txt and the
        environment.
        """
        program, directory = self.program, self.directory
        where = f"layout {program.layout.name} on {program.mesh.size} device(s)"
        if restored:
            say(f"{directory.path}: goes on from step {int(state.step)}", self.quiet)
        else:
            if start:
                say(f"{directory.path}: starts from the parameters of {start}", self.quiet)
            say(f"{directory.path}: {program.parameters:,} parameters, {where}", self.quiet)
        if is_main_process():
            overview = parameter_overview.get_parameter_overview(
                program.abstract_state.params, include_stats="sharding"
            )
            directory.parameters.write_text(f"{where}\n{overview}\n")
        main_process_first(f"circumstances of {directory.path}", directory.note_circumstances)

    def open_log(self, step: int) -> RunLog | None:
        """The log of metrics, in the main process; None in the others."""
        if is_main_process():
            training, path = self.experiment.training, self.directory.path
            size = training.batch_size
            self.log = RunLog(path, training.steps, step, size, self.quiet, self.title)
        return self.log

    def place(self, batch: Batch) -> Batch:
        """The arrays of a batch that the model reads, on the devices."""
        wanted = self.experiment.batch_inputs
        return self.program.place({name: batch[name] for name in wanted if name in batch})

    def session(self, state: TrainState) -> Session:
        """A session with the parameters of a state, for evaluation and sampling."""
        params = state.best_params
        frozen = params if self.frozen is None else self.frozen
        return Session(self.program, params, frozen, self.text_model, int(state.step))

    def periodic(self) -> list[Periodic]:
        """The activities that the loop calls at their cadence and after the last step."""
        training = self.experiment.training
        items = [
            Periodic(training.evaluate_every, "valid/", self.evaluate),
            Periodic(training.sample_every, "", self.draw),
        ]
        if isinstance(self.experiment.model, NoiseConditional):
            items.append(Periodic(training.steps, "caption_gap/", self.measure_caption_gap))
        return items

    def evaluate(self, state: TrainState, step: int) -> dict[str, float]:
        """The numbers of the experiment's evaluators."""
        when = f" after update {step}"
        self.results = results_of(self.experiment.evals, self.session(state), when)
        return flat_results(self.results)

    def draw(self, state: TrainState, step: int) -> dict[str, float]:
        """Writes a grid of pictures of the first validation records; no numbers."""
        examples = first_examples(self.experiment, self.text_model)
        image, captions = illustrate(self.session(state), examples)
        if self.log is not None:
            self.directory.samples.mkdir(exist_ok=True)
            with (self.directory.samples / f"step_{step:07d}.png").open("wb") as file:
                image.save(file, "PNG")
            self.log.image("samples", np.asarray(image), step)
            if captions:
                place = self.directory.samples / f"step_{step:07d}.txt"
                place.write_text("\n".join(captions) + "\n")
                self.log.text("captions", "\n\n".join(captions), step)
        return {}

    def measure_caption_gap(self, state: TrainState, step: int) -> dict[str, float]:
        """Measures the loss with and without captions at every noise level, and writes
        caption_gap.json.
        """
        stage.enter("measuring the caption gap")
        figures: dict[str, Any] = CaptionGap()(self.session(state))
        if is_main_process():
            self.directory.caption_gap.write_text(json.dumps(figures, indent=1))
        return flat(figures)

    def write_model_card(self) -> None:
        """Writes MODEL_CARD.md, in the main process. A card that cannot be written is a line on
        standard error: it must not fail a run that is trained and saved."""
        if not is_main_process():
            return
        record, parameters = self.directory.read(), self.program.parameters
        try:
            card = Card(self.experiment, record, parameters, self.results)
            write_model_card(self.directory, card)
        except Exception as error:
            say(f"{self.directory.path}: MODEL_CARD.md was not written ({error})", quiet=False)
