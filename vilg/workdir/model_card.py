"""MODEL_CARD.md: the page that a run leaves beside its parameters, for people who get the workdir
without its history.

The page says what the model is, on which data and how it was trained, what its evaluators measured
and under which protocol, and what these numbers do not show. It is Markdown with the YAML header
that model hubs read."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vilg.data.records import BadRecord
from vilg.evals.numbers import with_intervals
from vilg.experiment import Experiment
from vilg.types import Captioner, Embedder, Generator
from vilg.workdir.files import Record, Workdir

LICENSES_OF = 32  # records, evenly spaced, whose licences are read


@dataclasses.dataclass(frozen=True)
class Card:
    """The facts of a run that trained to its last step. `results` has what each evaluator of the
    config measured after the last step; it is empty where the run evaluates nothing."""

    experiment: Experiment
    record: Record
    parameters: int
    results: Mapping[str, Mapping[str, Any]]

    def text(self) -> str:
        """The whole page."""
        sections = {
            "Use": self.use(),
            "Model": self.model(),
            "Data": self.data(),
            "Training": self.training(),
            "Results": self.measured(),
            "Limits": self.limits(),
        }
        body = "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())
        return f"{self.header()}\n# {self.title}\n{body}"

    @property
    def name(self) -> str:
        """The name of the generator or ranker, or of the codec."""
        return str(self.section.get("name", self.experiment.model.role))

    @property
    def section_name(self) -> str:
        """The section of the config that describes the model."""
        return "generator" if self.experiment.model.reads_codes else "codec"

    @property
    def section(self) -> Mapping[str, Any]:
        """The fields of that section."""
        return self.record.config[self.section_name] or {}

    @property
    def title(self) -> str:
        """One line: the kind of model and its size."""
        return f"{self.name}: a {self.experiment.model.role} of {self.parameters:,} parameters"

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of the captions, in training; none for a codec."""
        reads_texts = "text" in self.experiment.model.inputs
        return tuple(self.experiment.data.loader.languages) if reads_texts else ()

    def header(self) -> str:
        """The YAML header; the licence of the parameters is for their owner to choose."""
        model = self.experiment.model
        tags = ["vilg", "jax", self.name]
        tags += ["text-to-image"] * isinstance(model, Generator)
        tags += ["image-to-text"] * isinstance(model, Captioner)
        fields: dict[str, Any] = {"license": "unknown", "library_name": "vilg", "tags": tags}
        if self.languages:
            fields["language"] = list(self.languages)
        lines = [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
        return "\n".join(["---", *lines, "---"])

    def use(self) -> str:
        """Commands and Python lines for what the model can do."""
        model = self.experiment.model
        commands, calls = [], []
        if isinstance(model, Generator):
            prompt = "a red circle" if "en" in self.languages else "一个红色圆形"
            commands.append(f"vilg sample --workdir=DIR --prompt='{prompt}' --num=8 --out=pictures")
            calls.append(f'run.sample("{prompt}", num=8)')
        if isinstance(model, Captioner):
            commands.append("vilg caption --workdir=DIR --images=pictures --out=captions.jsonl")
            calls.append('run.caption("picture.png")')
        if isinstance(model, Embedder):
            calls.append('run.score("picture.png", "a red circle")')
        if not model.reads_codes:
            calls.append('run.decode(run.encode("picture.png"))')
        commands.append("vilg evaluate --workdir=DIR --out=scores.json")
        python = ["import vilg", "", 'run = vilg.load("DIR")', *calls]
        return (
            f"DIR is the directory of this file.\n\n{fenced('', commands)}\n\n"
            f"{fenced('python', python)}"
        )

    def model(self) -> str:
        """The sizes of the model, and its section of the config."""
        codec = self.experiment.image_codec
        y, x = codec.grid
        lines = [
            f"- pictures of {codec.image_size} x {codec.image_size} pixels, {y} x {x} codes",
            f"- config hash `{self.experiment.hash}`; the whole configuration is in config.json",
        ]
        if self.languages:
            length = self.experiment.data.text.length
            names = ", ".join(self.languages)
            lines.append(f"- captions in {names}, of which the first {length} ids are read")
        if self.record.codec_hash:
            scores = self.record.codec or {}
            reached = ", ".join(f"{k} {v:.3f}" for k, v in scores.items())
            lines.append(
                f"- codes of the codec `{self.record.codec_hash}` ({reached or 'no scores'})"
            )
        for name, value in self.section.items():
            if name != "experiment" and value not in ({}, "", None):
                text = inline(value) if isinstance(value, Mapping) else value
                lines.append(f"- `{self.section_name}.{name}`: {text}")
        return "\n".join(lines)

    def data(self) -> str:
        """The sources with their sizes and licences."""
        train, valid = self.experiment.data.train, self.experiment.data.valid
        sections = self.record.config["data"]
        counts = Counter(licenses(train))
        known = "; ".join(f"{name} ({n})" for name, n in counts.most_common() if name)
        said = (
            f"Licences of {sum(counts.values())} training records, evenly spaced: {known}"
            + (f"; {counts['']} state none." if counts[""] else ".")
            if known
            else "The training records state no licence: whoever shares this model must find out"
            " under which licences its pictures and captions may be used, and write it here."
        )
        return "\n".join(
            [
                f"- training: {len(train):,} records of `{inline(sections['train'])}`",
                f"- validation: {len(valid):,} records of `{inline(sections['valid'])}`",
                "",
                said,
            ]
        )

    def training(self) -> str:
        """Updates, optimizer, machine and code."""
        training, optimizer = self.experiment.training, self.experiment.optimizer
        lines = [
            f"- {training.steps:,} updates of {training.batch_size} records, seed"
            f" {self.experiment.seed}",
            f"- {optimizer.kind}, learning rate up to {optimizer.learning_rate:g}, schedule"
            f" {optimizer.schedule}",
        ]
        if training.ema:
            lines.append(
                f"- sampling uses a moving average of the parameters, decay {training.ema:g}"
            )
        if self.experiment.start_from:
            lines.append(f"- from the parameters of the run {self.experiment.start_from}")
        if self.experiment.first is not None:
            lines.append("- after the curriculum of `training.first`")
        for machine in self.record.environments:
            lines.append(
                f"- on {machine['devices']} x {machine['device']}, {machine['processes']} process"
                f"{'es' if machine['processes'] > 1 else ''}, layout"
                f" {self.experiment.layout.name}; {inline(machine['versions'])}"
            )
        commits = ", ".join(f"`{commit}`" for commit in self.record.commits)
        return "\n".join([*lines, f"- code: vilg at {commits or 'an unknown commit'}"])

    def measured(self) -> str:
        """A table of numbers with their 95 % intervals, and the evaluators' protocols."""
        if not self.results:
            return (
                "This run was not evaluated while it trained: `training.evaluate_every` is 0 or"
                " `evals` is empty. `vilg evaluate` measures it."
            )
        lines = ["| evaluator | metric | value | 95 % interval |", "|---|---|---|---|"]
        for name, result in self.results.items():
            for metric, value, interval in with_intervals(result):
                limits = "-" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"
                lines.append(f"| {name} | {metric} | {value:.4g} | {limits} |")
        lines += [
            "",
            f"Measured after update {self.experiment.training.steps:,}. The protocol, which must"
            " be equal before numbers of two models are compared:",
            "",
        ]
        for name in self.results:
            lines.append(f"- {name}: {inline(self.experiment.evals[name].protocol())}")
        return "\n".join(lines)

    def limits(self) -> str:
        """What the numbers do not show."""
        lines = [
            "- One training run with one seed. The intervals are over records and prompts; another"
            " seed gives other numbers.",
            "- The numbers are of the splits that the protocols name. Settings may have been chosen"
            " by the same split, which makes its numbers too good.",
            "- The model knows pictures and captions like those of its training data, and nothing"
            " else can be expected of it.",
        ]
        if isinstance(self.experiment.model, Generator | Captioner):
            lines.append(
                "- No filter stands between the model and its output, and the output may repeat"
                " training data, with its errors and prejudices."
            )
        return "\n".join(lines)


def write_model_card(directory: Workdir, card: Card) -> None:
    """Writes the card, in place of an earlier one at once."""
    temporary = directory.model_card.with_suffix(".tmp")
    temporary.write_text(card.text(), encoding="utf-8")
    temporary.replace(directory.model_card)


def licenses(source: Any) -> Iterator[str]:
    """The licence of each of LICENSES_OF records, evenly spaced; "" where a record states none."""
    for i in range(0, len(source), max(1, len(source) // LICENSES_OF)):
        try:
            yield source[i].get("license") or ""
        except BadRecord:
            continue


def inline(fields: Mapping[str, Any]) -> str:
    """Fields in one line, "name=value, ..."; nested ones in braces."""
    parts = []
    for name, value in fields.items():
        text = f"{{{inline(value)}}}" if isinstance(value, Mapping) else value
        parts.append(f"{name}={text}")
    return ", ".join(parts)


def fenced(language: str, lines: Sequence[str]) -> str:
    """Lines as a block of code."""
    return "\n".join([f"```{language}", *lines, "```"])
