"""A workdir, which is the directory of one run: its frozen config, text model and other files."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vilg.compiler.flags import RECORDED
from vilg.data.sources import caption_texts
from vilg.data.text import TextModel, train_text_model
from vilg.experiment import Experiment
from vilg.experiment_file import run_identity
from vilg.parallel.processes import is_main_process
from vilg.paths import as_path, joined, relative
from vilg.types import UserError
from vilg.workdir.lock import locked

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "sentencepiece", "numpy")


@dataclasses.dataclass(frozen=True)
class Record:
    """A run's config.json: the frozen config, and the facts that its results depend on."""

    config: Mapping[str, Any]
    hash: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # hash of the parameters of the codec on whose codes the run was trained
    codec_hash: str | None = None
    codec: Mapping[str, float] | None = None  # reconstruction figures of that codec
    latents: Mapping[str, Sequence[float]] | None = None  # mean and deviation of each channel
    text_sha256: str | None = None  # of text.model
    commits: Sequence[str] = ()
    environments: Sequence[Mapping[str, Any]] = ()
    other: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # keys unknown to this code

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Record":
        """The record with the content of a config.json. Errors: KeyError or TypeError for a content
        that is no record.
        """
        if not isinstance(content["config"], dict):
            raise TypeError("its config is no mapping")
        known = {f.name for f in dataclasses.fields(cls)} - {"other"}
        other = {k: v for k, v in content.items() if k not in known}
        return cls(**{k: v for k, v in content.items() if k in known}, other=other)

    def content(self) -> dict[str, Any]:
        """The content of config.json: the config and the facts that are known."""
        facts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        facts |= facts.pop("other")
        return {name: fact for name, fact in facts.items() if fact not in (None, (), {}, "")}

    def with_places(self, change: Callable[[str], str]) -> "Record":
        """The record with `change` applied to the path of every other workdir that the config
        names.
        """
        return dataclasses.replace(self, config=with_places(self.config, change))


class Workdir:
    """The files of a run by name."""

    def __init__(self, path: str | os.PathLike):
        if not os.fspath(path):
            raise UserError("workdir='': is empty; give the directory of the run")
        self.path = as_path(path)
        self.config_file = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.parameters = self.path / "parameters.txt"
        self.model_card = self.path / "MODEL_CARD.md"
        self.caption_gap = self.path / "caption_gap.json"
        self.text_file = self.path / "text.model"
        self.profile = self.path / "profile"
        self.codec = self.path / "codec"
        self.first = self.path / "first"

    def read(self) -> Record:
        """The record in config.json. Errors: UserError if this is not the workdir of a run."""
        if not self.config_file.is_file():
            raise UserError(
                f"workdir={str(self.path)!r}: holds no config.json, so it is no run; give the"
                " --workdir of `vilg train`"
            )
        try:
            record = Record.of(json.loads(self.config_file.read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"workdir={str(self.path)!r}: config.json cannot be read ({error}); restore it from"
                " a copy"
            ) from None
        return record.with_places(lambda place: joined(self.path, place))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the workdir for this run (vilg/workdir/lock.py). With several processes the main
        process holds the lock for all.
        """
        if not is_main_process():
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            yield

    def open(self, experiment: Experiment) -> bool:
        """Writes the frozen config of a new run, or checks that an earlier run in this workdir has
        the same one. Returns whether the run is new.
        """
        if self.config_file.is_file():
            record = self.read()
            difference = first_difference(
                run_identity(record.config), run_identity(experiment.config)
            )
            if difference:
                field, old, new = difference
                raise UserError(
                    f"workdir={str(self.path)!r} holds a run with {field}={old!r}, this config has"
                    f" {new!r}; give the same config, or another --workdir"
                )
            gone = max(
                (int(p.name) for p in self.checkpoints.glob("*") if p.name.isdigit()), default=0
            )
            if gone > experiment.training.steps:
                raise UserError(
                    f"training.steps={experiment.training.steps}: the run in {self.path} has gone"
                    f" to {gone}; give that many or more"
                )
            self.write(dataclasses.replace(record, config=experiment.config))
            return False
        if self.checkpoints.exists():
            raise UserError(
                f"workdir={str(self.path)!r} has checkpoints but no config.json; choose another"
                " --workdir"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.write(Record(experiment.config, experiment.hash, versions()))
        return True

    def update(self, **facts: Any) -> None:
        """Sets fields of the Record in config.json."""
        self.write(dataclasses.replace(self.read(), **facts))

    def write(self, record: Record) -> None:
        """Writes config.json atomically, in the main process only. The paths of other workdirs are
        written relative to this one, so that a directory of several runs can be moved.
        """
        if not is_main_process():
            return
        content = record.with_places(lambda place: relative(place, self.path)).content()
        temporary = self.config_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False))
        temporary.replace(self.config_file)

    def note_circumstances(self) -> None:
        """Adds the commit of the code, and the environment, to config.json where they differ from
        the last ones there.
        """
        record, added = self.read(), {}
        known = {"commits": record.commits, "environments": record.environments}
        for name, now in (("commits", commit()), ("environments", environment())):
            before = list(known[name])
            added |= {name: [*before, now]} if before[-1:] != [now] else {}
        if added:
            self.write(dataclasses.replace(record, **added))

    def adopt_text_model(self, workdir: str) -> None:
        """Copies the text model of the run from whose parameters this run starts, since the
        parameters belong to the ids of that text model.
        """
        theirs = Workdir(workdir).text_file
        if not self.text_file.is_file():
            self.text_file.write_bytes(theirs.read_bytes())
        elif self.text_file.read_bytes() != theirs.read_bytes():
            raise UserError(
                f"training.start_from={workdir!r}: {self.text_file} is another text model than that"
                " run's; choose another --workdir"
            )

    def text_model(self, experiment: Experiment) -> TextModel:
        """The run's text model. It is trained on the captions where it does not exist yet.
        Errors: UserError where the file's hash is not the hash in config.json.
        """
        expected = self.read().text_sha256
        if not self.text_file.is_file():
            if expected is not None:
                raise UserError(
                    f"workdir={str(self.path)!r}: text.model is gone; restore it, for the run's ids"
                    " mean nothing without it"
                )
            train_text_model(
                caption_texts(experiment.data.train, experiment.data.text.records),
                experiment.data.text.vocabulary,
                self.text_file,
                han_characters=experiment.data.text.han_characters,
                tags=experiment.data.knowledge is not None and experiment.data.knowledge.tags > 0,
            )
        model = TextModel(str(self.text_file))
        if expected is None:
            self.update(text_sha256=model.sha256)
        elif expected != model.sha256:
            raise UserError(
                f"workdir={str(self.path)!r}: text.model has hash {model.sha256[:12]}, the run was"
                f" trained with {expected[:12]}; put the original file back"
            )
        return model


def with_places(config: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The config with `change` applied to the path of every other workdir that it names."""
    config = dict(config)
    for section, field in (("codec", "workdir"), ("training", "start_from")):
        if config[section].get(field):
            config[section] = {**config[section], field: change(config[section][field])}
    evals = {
        n: {**e, "ranker": change(e["ranker"])} if e.get("ranker") else e
        for n, e in config["evals"].items()
    }
    return {**config, "evals": evals}


def first_difference(old: object, new: object, path: str = "") -> tuple[str, object, object] | None:
    """The first field that differs, as (dotted name, old, new), or None."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            found = first_difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return None
    return None if old == new else (path, old, new)


def commit() -> str:
    """The commit of the code, or "unknown" where the code is not in a git repository of vilg: the
    directory of an installed wheel may lie in the repository of another project.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    options = ["describe", "--always", "--dirty", "--abbrev=12"]
    try:
        held = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True)
        if held.returncode:
            return "unknown"
        described = subprocess.run([*git, *options], capture_output=True, text=True)
    except OSError:  # no git here
        return "unknown"
    return described.stdout.strip() or "unknown"


def environment() -> dict[str, object]:
    """The facts beside the code on which a run's speed and rounding depend: devices, processes,
    XLA's flags and versions.
    """
    devices = {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }
    return {
        **devices,
        **{name: os.environ[name] for name in RECORDED if os.environ.get(name)},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of the packages that compute the results."""
    out = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            out[package] = importlib.metadata.version(package)
    return out
