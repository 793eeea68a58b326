"""A workdir: one run's directory, with its frozen config, text model, checkpoints and lock."""

import contextlib
import importlib.metadata
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
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
        self.caption_gap = self.path / "caption_gap.json"
        self.text_file = self.path / "text.model"
        self.profile = self.path / "profile"
        self.codec = self.path / "codec"
        self.first = self.path / "first"

    def read(self) -> dict[str, Any]:
        """config.json; a UserError if this is not a workdir."""
        if not self.config_file.is_file():
            raise UserError(
                f"workdir={str(self.path)!r}: holds no config.json, so it is no run; give the"
                " --workdir of `vilg train`"
            )
        try:
            stored = json.loads(self.config_file.read_text())
            if not isinstance(stored["config"], dict):
                raise TypeError("its config is no mapping")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"workdir={str(self.path)!r}: config.json cannot be read ({error}); restore it from"
                " a copy"
            ) from None
        return stored | {
            "config": with_places(stored["config"], lambda place: joined(self.path, place))
        }

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One run a workdir (vilg/workdir/lock.py). Of several processes the first holds it for
        all.
        """
        if not is_main_process():
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            yield

    def open(self, experiment: Experiment) -> bool:
        """Writes the frozen config, or checks it against the one that is there; whether the run is
        new.
        """
        if self.config_file.is_file():
            stored = self.read()
            difference = first_difference(
                run_identity(stored["config"]), run_identity(experiment.config)
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
            stored["config"] = dict(experiment.config)
            self.write(stored)
            return False
        foreign = (
            [
                p.name
                for p in self.path.iterdir()
                if p.name not in (".lock", "codec", "first", "text.model")
            ]
            if self.path.exists()
            else []
        )
        if "checkpoints" in foreign:
            raise UserError(
                f"workdir={str(self.path)!r} has checkpoints but no config.json; choose another"
                " --workdir"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.write(
            {"config": dict(experiment.config), "hash": experiment.hash, "versions": versions()}
        )
        return True

    def write(self, content: Mapping[str, Any]) -> None:
        """config.json, atomically. Other workdirs are written relative to this one, so that runs
        are found from any directory and move together. Written by the first process alone."""
        if not is_main_process():
            return
        content = {
            **content,
            "config": with_places(content["config"], lambda place: relative(place, self.path)),
        }
        temporary = self.config_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False))
        temporary.replace(self.config_file)

    def note_circumstances(self) -> None:
        """Adds the commit of the code that trains now, and what it runs on, to config.json, if it
        is another than before.
        """
        stored, added = self.read(), {}
        for name, now in (("commits", commit()), ("environments", environment())):
            before = stored.get(name, [])
            added |= {name: [*before, now]} if before[-1:] != [now] else {}
        if added:
            self.write(stored | added)

    def adopt_text_model(self, workdir: str) -> None:
        """Takes over the text model of the run that this one starts from: its parameters mean
        nothing with other ids.
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
        """The run's text model, trained from the captions if it is not there; refused if its hash
        is not the stored one.
        """
        stored = self.read()
        if not self.text_file.is_file():
            if "text_sha256" in stored:
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
        if "text_sha256" not in stored:
            self.write(stored | {"text_sha256": model.sha256})
        elif stored["text_sha256"] != model.sha256:
            raise UserError(
                f"workdir={str(self.path)!r}: text.model has hash {model.sha256[:12]}, the run was"
                f" trained with {stored['text_sha256'][:12]}; put the original file back"
            )
        return model


def with_places(config: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The config with the other workdirs that it names changed."""
    config = dict(config)
    for section, field in (("codec", "workdir"), ("training", "start_from")):
        if config[section].get(field):
            config[section] = {**config[section], field: change(config[section][field])}
    evals = {
        n: {**e, "ranker": change(e["ranker"])} if e.get("ranker") else e
        for n, e in config["evals"].items()
    }
    return {**config, "evals": evals}


def first_difference(old: Any, new: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first field that differs: (dotted name, old, new)."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            found = first_difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return None
    return None if old == new else (path, old, new)


def commit() -> str:
    """The commit of the code, or "unknown" where no clone holds it (an installed wheel, whose
    directory may lie in a repository of something else)."""
    git = ["git", "-C", str(Path(__file__).parent)]
    options = ["describe", "--always", "--dirty", "--abbrev=12"]
    try:
        held = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True)
        if held.returncode:
            return "unknown"
        told = subprocess.run([*git, *options], capture_output=True, text=True)
    except OSError:  # no git here
        return "unknown"
    return told.stdout.strip() or "unknown"


def environment() -> dict[str, Any]:
    """What a run's speed and rounding depend on beside its code: devices, processes, XLA's flags,
    versions.
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
    """Versions of what computes the results."""
    out = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            out[package] = importlib.metadata.version(package)
    return out
