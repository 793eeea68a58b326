"""Experiment: a config turned into frozen objects, without arrays or devices. `build_experiment` is
the only function that reads a config.

A config has the sections seed, data, codec, generator, optimizer, layout, training, evals, in this
order. Without a generator the experiment trains its codec: `model` is the codec and `codec` is
None. With a generator (or a ranker) `model` is the generator, `codec` is the frozen codec that
encodes and decodes its pictures, codec.experiment holds the codec's whole experiment, and
codec.workdir names the directory of the codec's run."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

from ml_collections import ConfigDict

from vilg.codecs import CODECS
from vilg.codecs.base import to_unit
from vilg.codecs.spaces import SPACES, Space
from vilg.config import as_type, build, lookup, require
from vilg.data.knowledge import Knowledge
from vilg.data.loader import Loader
from vilg.data.settings import Data, Text
from vilg.data.sources import build_source
from vilg.evals import EVALUATORS
from vilg.evals.base import Evaluator, Sampling, sampling_apart
from vilg.experiment_file import run_identity, to_dict
from vilg.generators import GENERATORS, RANKERS
from vilg.parallel.layout import Layout
from vilg.parallel.layouts import parse_layout
from vilg.training.optimizer import Optimizer
from vilg.training.settings import Training
from vilg.types import (
    Batch,
    Codec,
    Generator,
    Model,
    Params,
    Tokenizer,
    Trainable,
    UserError,
)

SECTIONS = ("seed", "data", "codec", "generator", "optimizer", "layout", "training", "evals")
LAYOUT_FIELD = (
    "layout.{}: unknown field; sizes and options go into layout.name, such as 'fsdp_tp:model=4' or"
    " 'fsdp:offload=1'"
)
MODELS = GENERATORS | RANKERS  # the classes that the section `generator` may name


@runtime_checkable
class FreeAtStart(Protocol):
    """A config class that names the fields in which a run may differ from the run that it starts
    from."""

    fields_free_at_start: tuple[str, ...]


@runtime_checkable
class DrawsPictures(Protocol):
    """A source that renders its pictures, in a size that its config sets."""

    image_size: int


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run as objects."""

    config: Mapping[str, Any]
    seed: int
    data: Data
    model: Model  # the codec, generator or ranker that is trained
    # the frozen codec of a generator or ranker; None where `model` is the codec
    codec: Codec | None
    codec_workdir: str
    codec_experiment: "Experiment | None"  # the experiment that trained `codec`
    optimizer: Optimizer
    layout: Layout
    training: Training
    first: "Experiment | None"  # training.first: the experiment that is trained before this one
    evals: Mapping[str, Evaluator]

    @property
    def trainable(self) -> Trainable:
        """The model as a Trainable, for the training loop."""
        return cast(Trainable, self.model)

    @property
    def codec_config(self) -> Mapping[str, object]:
        """The config of the frozen codec's experiment."""
        return self.config["codec"]["experiment"]

    @property
    def image_codec(self) -> Codec:
        """The codec that turns pictures into codes: `codec`, or the model where the run trains a
        codec."""
        return cast(Codec, self.codec or self.model)

    @functools.cached_property
    def space(self) -> Space:
        """The codes that the model reads or generates, as a Space of the codec."""
        return SPACES[self.model.space](self.image_codec)

    @property
    def batch_inputs(self) -> tuple[str, ...]:
        """Names of the arrays of a batch: the model's inputs, without the marks of key words and
        regions where no data.knowledge makes them."""
        marked = self.data.knowledge is not None
        return tuple(n for n in self.model.inputs if marked or n not in ("key", "region"))

    @property
    def controls(self) -> Any:
        """The sampling options of the first evaluator that samples; without such an evaluator, the
        generator's defaults."""
        assert isinstance(self.model, Generator)
        sampling = [e for e in self.evals.values() if isinstance(e, Sampling)]
        return sampling[0].controls(self.model) if sampling else self.model.controls({})

    @property
    def start_from(self) -> str:
        """The workdir whose parameters training starts from: training.start_from or, where the run
        trains a codec and so needs no other codec, codec.workdir."""
        trained_codec = "" if self.model.reads_codes else self.codec_workdir
        return self.training.start_from or trained_codec

    def prepare(self, frozen: Params, batch: Batch) -> Batch:
        """The batch with the arrays that the model reads: for a model of codes, "codes" is computed
        by the frozen codec, whose parameters are `frozen`."""
        if "codes" in batch or not self.model.reads_codes:
            return batch
        return {**batch, "codes": self.space.encode(frozen, to_unit(batch["image"]))}

    @functools.cached_property
    def hash(self) -> str:
        """A hash of the config's fields that determine the results."""
        text = json.dumps(run_identity(self.config), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_experiment(
    config: ConfigDict | Mapping[str, object], of_generator: bool = False
) -> Experiment:
    """The Experiment of a config; `of_generator` is set for the codec.experiment of a generator.

    Errors: UserError that names the field, the value and the remedy."""
    config = to_dict(config)
    _check_sections(config)
    data = _data(config["data"])
    if config["generator"]:
        codec_experiment = _codec_experiment(config["codec"])
        codec: Codec | None = codec_experiment.image_codec
        model = _generator(config["generator"], codec, data)
        image_size = codec.image_size
    else:
        codec_experiment, codec = None, None
        model = _codec(config["codec"], of_generator)
        assert isinstance(model, Codec)
        image_size = model.image_size
    _check_image_size(data, image_size)
    training = build(Training, config["training"], "training")
    _check_training(training, model)
    first = None
    if config["training"].get("first"):
        section = config["training"]["first"]
        remedy = "must be an experiment"
        require(isinstance(section, Mapping), "training.first", section, remedy)
        first = build_experiment(section)
        require_same(first.codec, codec, "training.first.codec.experiment.codec")
        require_same(first.model, model, "training.first.generator")
    return Experiment(
        config=config,
        seed=config["seed"],
        data=data,
        model=model,
        codec=codec,
        codec_workdir=as_type(config["codec"].get("workdir", ""), str, "codec.workdir"),
        codec_experiment=codec_experiment,
        optimizer=build(Optimizer, config["optimizer"], "optimizer"),
        layout=parse_layout(as_type(config["layout"].get("name", "dp"), str, "layout.name")),
        training=training,
        first=first,
        evals=_evaluators(config["evals"], model),
    )


def _check_sections(config: Mapping[str, Any]) -> None:
    """Errors: UserError for sections that are unknown or missing, and for values in place of
    sections."""
    known = f"an experiment has {', '.join(SECTIONS)}"
    for name in config:
        if name not in SECTIONS:
            raise UserError(f"config.{name}: unknown section; {known}")
    for name in SECTIONS:
        if name not in config:
            raise UserError(f"config.{name} is missing; {known}")
        section = config[name]
        fits = name == "seed" or isinstance(section, Mapping)
        require(fits, name, section, "must be a section, such as dict(...)")
    seed = config["seed"]
    fits = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
    require(fits, "seed", seed, "must be a whole number, 0 or more")
    for field in config["layout"]:
        if field != "name":
            raise UserError(LAYOUT_FIELD.format(field))


def _data(section: Mapping[str, Any]) -> Data:
    fields = ("train", "valid", "loader", "text", "knowledge")
    for name in section:
        if name not in fields:
            raise UserError(f"data.{name}: unknown field; data has {', '.join(fields)}")
    for part in ("train", "valid"):
        if part not in section:
            raise UserError(f"data.{part} is missing: a source such as dict(name='synthetic')")
        remedy = "must be a source such as dict(name='synthetic')"
        require(isinstance(section[part], Mapping), f"data.{part}", section[part], remedy)
    knowledge = section.get("knowledge")
    return Data(
        train=build_source(section["train"], "data.train"),
        valid=build_source(section["valid"], "data.valid"),
        loader=build(Loader, section.get("loader", {}), "data.loader"),
        text=build(Text, section.get("text", {}), "data.text"),
        knowledge=None if knowledge is None else build(Knowledge, knowledge, "data.knowledge"),
    )


def _codec_experiment(section: Mapping[str, Any]) -> Experiment:
    """The codec's experiment of a generator's config."""
    extra = set(section) - {"workdir", "floors", "experiment"}
    if extra or "experiment" not in section:
        raise UserError(
            "config.codec of an experiment with a generator has the fields workdir, floors and"
            " experiment, no others"
        )
    for name, floor in as_type(section.get("floors") or {}, Mapping, "codec.floors").items():
        as_type(floor, float, f"codec.floors.{name}")
    return build_experiment(section["experiment"], of_generator=True)


def _codec(section: Mapping[str, object], of_generator: bool) -> Model:
    """The codec of an experiment that trains a codec, or of a generator's codec.experiment."""
    fields = {k: v for k, v in section.items() if k != "workdir"}
    codec: Model = build(lookup(CODECS, fields.get("name"), "codec.name"), fields, "codec")
    trainable: Any = codec
    if not of_generator and not isinstance(trainable, Trainable):
        raise UserError(
            f"codec.name={fields['name']!r}: has nothing to train; name it in the"
            " codec.experiment of a generator"
        )
    return codec


def _generator(section: Mapping[str, object], codec: Codec, data: Data) -> Model:
    """The generator or ranker, with the sizes that the codec and the text model determine."""
    tokenizer = codec if isinstance(codec, Tokenizer) else None
    sizes = {
        "image_vocabulary": tokenizer.vocabulary if tokenizer else 0,
        "grid": codec.grid,
        "code_width": tokenizer.code_width if tokenizer else 0,
        "latent_channels": codec.latent_channels,
        "text_vocabulary": data.text.vocabulary,
        "text_length": data.text.length,
    }
    kind = lookup(MODELS, section.get("name"), "generator.name")
    fields = {f.name for f in dataclasses.fields(kind)}
    computed = {k: v for k, v in sizes.items() if k in fields}
    model = build(kind, section, "generator", **computed)
    _ = SPACES[model.space](codec)  # refuses a codec that lacks the codes of the model's space
    if data.knowledge is None:
        model.check_knowledge(0.0, 0.0)
    elif model.weighs_knowledge:
        model.check_knowledge(data.knowledge.attention, data.knowledge.regions)
    else:
        remedy = f"{type(model).__name__} does not read its marks; remove the section"
        require(False, "data.knowledge", data.knowledge, remedy)
    return model


def _check_image_size(data: Data, image_size: int) -> None:
    """Errors: UserError where a source renders its pictures in another size than the codec's."""
    for part, source in (("train", data.train), ("valid", data.valid)):
        if isinstance(source, DrawsPictures):
            remedy = f"must be the codec's image_size, {image_size}"
            fits = source.image_size == image_size
            require(fits, f"data.{part}.image_size", source.image_size, remedy)


def _evaluators(section: Mapping[str, Any], model: Model) -> dict[str, Evaluator]:
    evaluators: dict[str, Evaluator] = {}
    for name, fields in section.items():
        path = f"evals.{name}"
        kind = lookup(EVALUATORS, evaluator_of(name, fields), "evals")
        options = {}
        if issubclass(kind, Sampling):
            fields, options = sampling_apart(fields, path)
        evaluators[name] = build(kind, fields, path, **options)
        evaluators[name].check(model, path)
    return evaluators


def _check_training(training: Training, model: Model) -> None:
    """Errors: UserError where a field of training asks for something that the model cannot do."""
    fits = not training.sample_every or model.role != "ranker"
    remedy = "a ranker samples no pictures; give 0"
    require(fits, "training.sample_every", training.sample_every, remedy)
    fits = training.accumulation == 1 or not model.compares_rows
    remedy = "this model's loss compares all rows of a batch, which microbatches divide; give 1"
    require(fits, "training.accumulation", training.accumulation, remedy)


def evaluator_of(name: str, fields: object) -> str:
    """The name of the evaluator of a section of evals: the section's field "name", or the section's
    own name."""
    return str(fields.get("name", name)) if isinstance(fields, Mapping | ConfigDict) else name


def require_same(theirs: object, ours: object, path: str) -> None:
    """Errors: UserError where training.first trains another model than this experiment. The fields
    in which a model may differ from the run that it starts from are not compared."""
    if dataclasses.is_dataclass(ours) and type(theirs) is type(ours):
        free = ours.fields_free_at_start if isinstance(ours, FreeAtStart) else ()
        for name in (f.name for f in dataclasses.fields(ours) if f.name not in free):
            require_same(getattr(theirs, name), getattr(ours, name), f"{path}.{name}")
    else:
        require(
            theirs == ours, path, theirs, f"must be as in this experiment, {ours!r}; override both"
        )
