"""The runs of an ablation's file: every cell with every seed, with its workdir, its codec and the
run from which it starts.

Separate from `vilg sweep`, which trains the runs one after another, because `vilg launch sweep`
submits the same runs to a cluster.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vilg.config import lookup, require
from vilg.experiment import Experiment, build_experiment
from vilg.experiment_file import load_file, to_dict
from vilg.overrides import override
from vilg.paths import Place
from vilg.types import UserError
from vilg.workdir.restore import has_parameters

METRICS = {
    "scenes/single_object": "one object",
    "scenes/two_objects": "two objects",
    "caption_gap/largest": "caption gap",
    "reconstruction/psnr": "PSNR",
    "losses/loss": "loss",
    "training/loss": "training loss",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Ablation:
    """The content of an ablation's file, beside the config that its cells share."""

    cells: Mapping[str, Any]  # of mappings
    seeds: tuple[int, ...] = (0, 1, 2)
    metrics: Mapping[str, str] = dataclasses.field(default_factory=lambda: METRICS)
    controls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tables: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, overrides in self.cells.items():
            fits = (
                re.fullmatch(r"[\w.-]+", name) and name.strip(".") and not name.startswith("codec")
            )
            require(
                bool(fits),
                "CELLS",
                name,
                "must be a file's name of letters, digits, _ . -, and not begin with 'codec', where"
                " codecs are",
            )
            require(
                isinstance(overrides, Mapping | ConfigDict),
                f"CELLS.{name}",
                overrides,
                "must be a mapping of dotted fields, such as {'optimizer.clip': 1.0}",
            )
        for field, names in (
            ("CONTROLS", [*self.controls, *self.controls.values()]),
            *((f"TABLES.{t}", c) for t, c in self.tables.items()),
        ):
            for name in names:
                lookup(self.cells, name, field)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One cell with one seed. `mark` is a hash of everything on which its metrics depend. Runs with
    the same `workdir` are trained once.
    """

    cell: str
    seed: int
    overrides: Mapping[str, Any]
    experiment: Experiment
    workdir: Place
    codec: str  # workdir of a codec that the sweep trains before this run, or ""
    start: str  # the cell from whose parameters this run starts, or ""
    mark: str

    @property
    def name(self) -> str:
        """The text "cell/seed"."""
        return f"{self.cell}/{self.seed}"


def read_ablation(path: str) -> Ablation:
    """The Ablation of "FILE.py[:size]". Errors: UserError where the file has no CELLS."""
    file, _, size = path.partition(":")
    names = vars(load_file(file))
    found = {
        name: names[name.upper()]
        for name in ("cells", "seeds", "metrics", "controls", "tables")
        if name.upper() in names
    }
    if "cells" in names:
        found["cells"] = names["cells"](size) if size else names["cells"]()
    if not found.get("cells"):
        raise UserError(
            f"config={path!r}: the file has no CELLS; `vilg train` runs a single experiment"
        )
    if "seeds" in found:
        found["seeds"] = parse_seeds(",".join(map(str, found["seeds"])))
    return Ablation(**found)


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds of a text such as "0,1,2"."""
    parts = [part.strip() for part in text.split(",")]
    require(
        all(re.fullmatch(r"[0-9]+", part) for part in parts),
        "seeds",
        text,
        "must be whole numbers joined by commas, such as 0,1,2",
    )
    return tuple(dict.fromkeys(int(part) for part in parts))


def with_starts(chosen: Sequence[str], cells: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The chosen cells and the cells from which these start, in the order of the file."""
    needed = set()
    for name in chosen:
        lookup(cells, name, "cells")
        while name in cells and name not in needed:
            needed.add(name)
            name = cells[name].get("training.start_from", "")
    return [name for name in cells if name in needed]


def ablation_runs(
    base: dict[str, Any], ablation: Ablation, seeds: Sequence[int], out: Place
) -> dict[tuple[str, int], Run]:
    """Every run of the ablation, by cell and seed. Errors: UserError, which names the cell, for a
    config that is wrong, so that a mistake is found before any training.
    """
    codecs: dict[Any, tuple[str, bool]] = {}
    shared_codec(build_experiment(base), codecs, out / "codec")
    runs: dict[tuple[str, int], Run] = {}
    marks: dict[tuple[str, int], str] = {}  # hashes of what decides a run's parameters
    places: dict[str, Place] = {}
    for cell, overrides in ablation.cells.items():
        with naming(cell):
            for seed in seeds:
                changes = {**overrides, "seed": seed, "data.loader.seed": seed}
                config = to_dict(override(base, changes, create=True))
                start = config["training"].get("start_from", "")
                before = runs.get((start, seed))
                require(
                    before is not None or start not in ablation.cells,
                    "training.start_from",
                    start,
                    "must be a cell that comes before",
                )
                experiment = build_experiment(config)
                if experiment.model.reads_codes:
                    config["codec"]["workdir"], own = shared_codec(
                        experiment, codecs, out / f"codec_{cell}"
                    )
                config["training"]["start_from"] = str(before.workdir) if before else start
                mark = sha(
                    [
                        experiment.hash,
                        experiment.training.steps,
                        marks[start, seed] if before else start,
                    ]
                )
                marks[cell, seed] = mark
                runs[cell, seed] = Run(
                    cell=cell,
                    seed=seed,
                    overrides=dict(overrides),
                    experiment=build_experiment(config),
                    workdir=places.setdefault(mark, out / cell / str(seed)),
                    codec=(
                        config["codec"]["workdir"] if experiment.model.reads_codes and own else ""
                    ),
                    start=start if before else "",
                    mark=sha([mark, config["evals"]]),
                )
    return runs


def shared_codec(
    experiment: Experiment, codecs: dict[Any, tuple[str, bool]], place: Place
) -> tuple[str, bool]:
    """The workdir of the experiment's codec, and whether the sweep trains the codec there.

    Experiments of equal codecs share a workdir: codec.workdir if the first such config has one,
    else `place`. The workdir of a codec without parameters is "".
    """
    codec = experiment.codec_experiment
    if codec is None or not has_parameters(codec.image_codec):
        return "", False
    # codec.workdir holds the codec of the base config, which is asked for first
    given = experiment.codec_workdir if not codecs else ""
    return codecs.setdefault(
        (codec.hash, codec.training.steps), (given, False) if given else (str(place), True)
    )


@contextlib.contextmanager
def naming(cell: str) -> Iterator[None]:
    """Puts the name of the cell before the sentence of a UserError that is raised inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"cell {cell!r}: {error}") from None


def sha(content: object) -> str:
    """A short hash of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
