"""Experiment: a ConfigDict turned into frozen objects. No arrays, no devices. `build_experiment`
alone reads a ConfigDict.

Sections, in a fixed order: seed, data, codec, generator, optimizer, layout, training, evals. An
experiment without a generator trains its codec; one with a generator holds its codec's whole
experiment in codec.experiment, and codec.workdir says where it is trained."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from vilg.codecs import CODECS
from vilg.codecs.base import to_unit
from vilg.codecs.spaces import SPACES, natural
from vilg.config import as_type, build, lookup, require
from vilg.data.knowledge import Knowledge
from vilg.data.loader import Loader
from vilg.data.sources import build_source
from vilg.evals import EVALUATORS
from vilg.evals.base import Sampling
from vilg.experiment_file import run_identity, to_dict
from vilg.generators import GENERATORS, RANKERS
from vilg.parallel.layout import Layout
from vilg.parallel.layouts import parse_layout
from vilg.training.optimizer import Optimizer
from vilg.types import Batch, Captioner, Codec, Embedder, Generator, Params, Trainable, UserError

SECTIONS = ("seed", "data", "codec", "generator", "optimizer", "layout", "training", "evals")
LAYOUT_FIELD = (
    "layout.{}: unknown field; sizes and options go into layout.name, such as 'fsdp_tp:model=4' or"
    " 'fsdp:offload=1'"
)
MODELS = GENERATORS | RANKERS  # what the section `generator` may name


@dataclasses.dataclass(frozen=True)
class Text:
    """The text model to train from the captions: `vocabulary` ids at most, rows of `length` ids."""

    vocabulary: int = 512
    length: int = 32
    han_characters: bool = True  # no piece spans two Han characters
    records: int = 4_000  # records whose captions the model is trained from, at most

    def __post_init__(self) -> None:
        require(
            self.vocabulary > 260,
            "data.text.vocabulary",
            self.vocabulary,
            "must be above 260: 256 bytes and the marks come first",
        )
        require(self.records > 0, "data.text.records", self.records, "must be at least 1")


@dataclasses.dataclass(frozen=True)
class Data:
    """Where records come from and how they become batches."""

    train: Any
    valid: Any
    loader: Loader
    text: Text
    knowledge: Knowledge | None = (
        None  # of training samples (ERNIE-ViLG 2.0); without the section there is none
    )


@dataclasses.dataclass(frozen=True)
class Training:
    """Cadence. Budgets are updates, never clock time; `batch_size` is global. A zero switches the
    periodic thing off.
    """

    steps: int
    batch_size: int
    accumulation: int = 1
    ema: float = 0.0
    checkpoint_every: int = 200
    log_every: int = 10
    evaluate_every: int = 0
    sample_every: int = 0
    keep_last: int = 2
    keep_best: int = 1
    # workdir of another run of the same model, whose parameters (and text model) this one starts
    # from
    start_from: str = ""
    # that other run's experiment: without start_from it is trained first, into WORKDIR/first (a
    # curriculum)
    first: Any = None

    def __post_init__(self) -> None:
        for field in (
            "steps",
            "batch_size",
            "accumulation",
            "checkpoint_every",
            "log_every",
            "keep_last",
        ):
            require(
                getattr(self, field) > 0,
                f"training.{field}",
                getattr(self, field),
                "must be at least 1",
            )
        require(self.ema < 1, "training.ema", self.ema, "must be below 1; 0 keeps no average")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a run is, as objects."""

    config: Mapping[str, Any]
    seed: int
    data: Data
    codec: Codec
    codec_workdir: str
    codec_experiment: Any  # an Experiment, or None when this one trains the codec
    generator: Any  # a Generator, or a model that draws nothing (RANKERS), or None
    optimizer: Optimizer
    layout: Layout
    training: Training
    first: Any  # the Experiment of training.first, or None
    evals: Mapping[str, Any]

    @property
    def trainable(self) -> Any:
        """What `train` improves: a Trainable."""
        return self.codec if self.generator is None else self.generator

    @functools.cached_property
    def space(self) -> Any:
        """What the generator draws, as seen through the codec; in a codec's own run its ids, or its
        latents where it has none.
        """
        return (
            natural(self.codec)
            if self.generator is None
            else SPACES[self.generator.space](self.codec)
        )

    @property
    def controls(self) -> Any:
        """The generator's controls as the first evaluator that samples has them, else its own
        defaults.
        """
        sampling = [e for e in self.evals.values() if isinstance(e, Sampling)]
        return sampling[0].controls(self.generator) if sampling else self.generator.controls({})

    @property
    def start_from(self) -> str:
        """The workdir whose parameters training starts from; for a tokenizer codec.workdir says the
        same, since it needs no other.
        """
        return self.training.start_from or (self.codec_workdir if self.generator is None else "")

    def prepare(self, frozen: Params, batch: Batch) -> Batch:
        """The batch as the trainable wants it: a generator gets codes, from the frozen codec's
        parameters.
        """
        if self.generator is None or "codes" in batch:
            return batch
        return {**batch, "codes": self.space.encode(frozen, to_unit(batch["image"]))}

    @functools.cached_property
    def hash(self) -> str:
        """A hash of what decides the results."""
        return hashlib.sha256(
            json.dumps(run_identity(self.config), sort_keys=True).encode()
        ).hexdigest()[:16]


def build_experiment(config: ConfigDict | Mapping[str, Any], inside: bool = False) -> Experiment:
    """The Experiment of a config; `inside`, it is the codec's of a generator. Errors: UserError
    naming the field, the value and the remedy.
    """
    config = to_dict(config)
    unknown = [k for k in config if k not in SECTIONS]
    if unknown:
        raise UserError(
            f"config.{unknown[0]}: unknown section; an experiment has {', '.join(SECTIONS)}"
        )
    for section in SECTIONS:
        if section not in config:
            raise UserError(f"config.{section} is missing; an experiment has {', '.join(SECTIONS)}")
        require(
            section == "seed" or isinstance(config[section], Mapping),
            section,
            config[section],
            "must be a section, such as dict(...)",
        )
    seed = config["seed"]
    require(
        isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0,
        "seed",
        seed,
        "must be a whole number, 0 or more",
    )
    data = _data(config["data"])
    codec_section = config["codec"]
    codec_experiment = None
    if config["generator"]:
        extra = set(codec_section) - {"workdir", "floors", "experiment"}
        if extra or "experiment" not in codec_section:
            raise UserError(
                "config.codec of an experiment with a generator has the fields workdir, floors and"
                " experiment, no others"
            )
        for name, floor in as_type(
            codec_section.get("floors") or {}, Mapping, "codec.floors"
        ).items():
            as_type(floor, float, f"codec.floors.{name}")
        codec_experiment = build_experiment(codec_section["experiment"], inside=True)
        codec = codec_experiment.codec
    else:
        fields = {k: v for k, v in codec_section.items() if k != "workdir"}
        codec = build(lookup(CODECS, fields.get("name"), "codec.name"), fields, "codec")
        trained: Any = codec
        if not inside and not isinstance(trained, Trainable):
            raise UserError(
                f"codec.name={fields['name']!r}: has nothing to train; name it in the"
                " codec.experiment of a generator"
            )
    for part in ("train", "valid"):
        drawn = getattr(
            getattr(data, part), "image_size", codec.image_size
        )  # of a source that draws its pictures
        require(
            drawn == codec.image_size,
            f"data.{part}.image_size",
            drawn,
            f"must be the codec's image_size, {codec.image_size}",
        )
    generator = None
    if config["generator"]:
        section = config["generator"]
        given = {
            "image_vocabulary": getattr(codec, "vocabulary", 0),
            "grid": codec.grid,
            "code_width": getattr(codec, "code_width", 0),
            "latent_channels": codec.latent_channels,
            "text_vocabulary": data.text.vocabulary,
            "text_length": data.text.length,
        }
        kind = lookup(MODELS, section.get("name"), "generator.name")
        given = {k: v for k, v in given.items() if k in {f.name for f in dataclasses.fields(kind)}}
        generator = build(kind, section, "generator", **given)
        _ = SPACES[generator.space](codec)  # refuses a codec that has no such codes
        check_knowledge(data.knowledge, generator)
    evals = {
        n: build(lookup(EVALUATORS, evaluator_of(n, fields), "evals"), fields, f"evals.{n}")
        for n, fields in config["evals"].items()
    }
    for name, evaluator in evals.items():
        if getattr(evaluator, "needs_captioner", False) and not isinstance(generator, Captioner):
            raise UserError(
                f"evals.{name} captions images, which"
                f" {config['generator'].get('name') or 'a codec'!r} cannot; remove it"
            )
        if isinstance(evaluator, Sampling):
            if generator is not None and not isinstance(generator, Generator):
                raise UserError(
                    f"evals.{name} samples pictures, which {config['generator']['name']!r} cannot;"
                    " remove it"
                )
            evaluator.check(generator)
        if getattr(evaluator, "needs_features", False) and not isinstance(generator, Embedder):
            raise UserError(
                f"evals.{name} asks for features, which"
                f" {config['generator'].get('name') or 'a codec'!r} has not; remove it"
            )
    training = build(Training, config["training"], "training")
    check_training(training, generator)
    first = None
    if config["training"].get("first"):
        require(
            isinstance(config["training"]["first"], Mapping),
            "training.first",
            config["training"]["first"],
            "must be an experiment",
        )
        first = build_experiment(config["training"]["first"])
        require_same(first.codec, codec, "training.first.codec.experiment.codec")
        require_same(first.generator, generator, "training.first.generator")
    layout_extra = [k for k in config["layout"] if k != "name"]
    if layout_extra:
        raise UserError(LAYOUT_FIELD.format(layout_extra[0]))
    return Experiment(
        config=config,
        seed=seed,
        data=data,
        codec=codec,
        codec_workdir=as_type(codec_section.get("workdir", ""), str, "codec.workdir"),
        codec_experiment=codec_experiment,
        generator=generator,
        optimizer=build(Optimizer, config["optimizer"], "optimizer"),
        layout=parse_layout(as_type(config["layout"].get("name", "dp"), str, "layout.name")),
        training=training,
        first=first,
        evals=evals,
    )


def check_training(training: Training, model: Any) -> None:
    """Errors: UserError where training asks of the model what it cannot do."""
    draws = model is None or isinstance(model, Generator)
    require(
        draws or not training.sample_every,
        "training.sample_every",
        training.sample_every,
        "this model draws no pictures; give 0",
    )
    alone = not getattr(model, "whole_batch", False)
    remedy = (
        "this model's loss compares all rows of a batch, which microbatches would keep apart;"
        " give 1"
    )
    require(
        alone or training.accumulation == 1, "training.accumulation", training.accumulation, remedy
    )


def evaluator_of(name: str, fields: Any) -> str:
    """The evaluator that a section of evals names, which is the section's own name where it has no
    "name".
    """
    return fields.get("name", name) if hasattr(fields, "get") else name


def check_knowledge(marked: Knowledge | None, generator: Any) -> None:
    """Errors: UserError where the data marks what the generator cannot weigh, or the generator
    weighs what the data does not mark.
    """
    weights = getattr(generator, "knowledge", None)
    if weights is None:
        require(
            marked is None,
            "data.knowledge",
            marked,
            f"{type(generator).__name__} has no use for it; remove the section",
        )
        return
    for weight, mark in (("attention_weight", "attention"), ("region_weight", "regions")):
        value, share = getattr(weights, weight), getattr(marked, mark, 0)
        remedy = f"weighs what is not marked: give data.knowledge.{mark} a share, or 0"
        require(not value or share > 0, f"generator.knowledge.{weight}", value, remedy)


def require_same(theirs: Any, ours: Any, path: str) -> None:
    """Errors: UserError where what `training.first` trains is something else, but for what a class
    says a run `grows_in`.
    """
    if dataclasses.is_dataclass(ours) and type(theirs) is type(ours):
        for name in (
            f.name for f in dataclasses.fields(ours) if f.name not in getattr(ours, "grows_in", ())
        ):
            require_same(getattr(theirs, name), getattr(ours, name), f"{path}.{name}")
    else:
        require(
            theirs == ours, path, theirs, f"must be as in this experiment, {ours!r}; override both"
        )


def _data(section: Mapping[str, Any]) -> Data:
    unknown = [k for k in section if k not in ("train", "valid", "loader", "text", "knowledge")]
    if unknown:
        raise UserError(
            f"data.{unknown[0]}: unknown field; data has train, valid, loader, text, knowledge"
        )
    for part in ("train", "valid"):
        if part not in section:
            raise UserError(f"data.{part} is missing: a source such as dict(name='synthetic')")
        require(
            isinstance(section[part], Mapping),
            f"data.{part}",
            section[part],
            "must be a source such as dict(name='synthetic')",
        )
    sources = {part: build_source(section[part], f"data.{part}") for part in ("train", "valid")}
    knowledge = section.get("knowledge")
    return Data(
        **sources,
        loader=build(Loader, section.get("loader", {}), "data.loader"),
        text=build(Text, section.get("text", {}), "data.text"),
        knowledge=None if knowledge is None else build(Knowledge, knowledge, "data.knowledge"),
    )
