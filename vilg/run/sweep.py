"""vilg sweep: an ablation, every cell with every seed: trained, evaluated, and put into one table and one plot.

The file of --config is an experiment's. Beside get_config, which gives what the cells share, it has

  CELLS      {cell: {dotted field: value}}, or a function of the config size; training.start_from may name a cell that comes before
  SEEDS      whole numbers, which become `seed` and `data.loader.seed` (default 0, 1, 2)
  METRICS    {metric: its title}, as `vilg evaluate` names them; training/loss and what else a run's last line of metrics.jsonl has
  CONTROLS   {cell: the cell that it is compared with, seed by seed}
  TABLES     {title: cells}

DIR/CELL/SEED are workdirs that every verb accepts, DIR/codec is shared. Cells that differ in nothing but `evals` share one run. DIR/sweep.json
is written after every run, and what is in it is not done again: the same command goes on where it was stopped. Tasks of a cluster, each with
its own cells and seeds, run at once with --task (`vilg launch sweep` writes them); the command without it then gathers what they found.
"""

import argparse
import contextlib
import copy
import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Column, Table

from vilg.config import lookup, require
from vilg.experiment import Experiment, build_experiment, load_file, to_dict
from vilg.metrics.intervals import interval, t_interval
from vilg.paths import Place, as_path, written_to
from vilg.program import Program
from vilg.report.dots import draw_dots
from vilg.run.costs import Costs
from vilg.run.session import has_parameters, open_session
from vilg.run.train import flat, train
from vilg.run.workdir import commit, versions
from vilg.training.log import read_metrics
from vilg.types import Diverged, UserError

METRICS = {
    "scenes/single_object": "one object",
    "scenes/two_objects": "two objects",
    "caption_gap/largest": "caption gap",
    "reconstruction/psnr": "PSNR",
    "losses/loss": "loss",
    "training/loss": "training loss",
}
LAST = 0.1  # of the logged steps, whose mean is training/loss
Summary = dict[str, dict[str, dict[str, Any]]]  # cell -> metric -> mean, intervals


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options; --config is shared by all verbs that take one."""
    parser.add_argument("--out", required=True, metavar="DIR", help="holds the runs, sweep.json and sweep.png")
    parser.add_argument("--cells", default="", help="names joined by commas, beside those that they start from (default: all)")
    parser.add_argument("--seeds", default="", help="whole numbers joined by commas (default: the file's SEEDS, or 0,1,2)")
    parser.add_argument("--task", action="store_true", help="one of several at once: its rows go to DIR/tasks/CELLS-SEEDS, no table")
    parser.add_argument("--quiet", action="store_true", help="no progress lines of the runs")


@dataclasses.dataclass(frozen=True, eq=False)
class Ablation:
    """What an ablation's file says beside the config that its cells share."""

    cells: Mapping[str, Any]  # of mappings
    seeds: tuple[int, ...] = (0, 1, 2)
    metrics: Mapping[str, str] = dataclasses.field(default_factory=lambda: METRICS)
    controls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tables: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, overrides in self.cells.items():
            fits = re.fullmatch(r"[\w.-]+", name) and name.strip(".") and not name.startswith("codec")
            require(
                bool(fits), "CELLS", name, "must be a file's name of letters, digits, _ . -, and not begin with 'codec', where codecs are"
            )
            require(
                hasattr(overrides, "items"),
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
    """One cell with one seed. `mark` is a hash of what decides its metrics; runs of one `workdir` are one training."""

    cell: str
    seed: int
    overrides: Mapping[str, Any]
    experiment: Experiment
    workdir: Place
    codec: str  # the workdir of a codec that is trained here first; "" where there is none to train
    start: str  # the cell that it starts from, or ""
    mark: str

    @property
    def name(self) -> str:
        """cell/seed."""
        return f"{self.cell}/{self.seed}"


def main(args: argparse.Namespace, config: Any) -> int:
    """Trains and evaluates what is not there yet; tables and plot of all that is."""
    if config is None:
        raise UserError("--config is missing: give --config=experiments/ablations/noise.py, or another file that has CELLS")
    ablation = read_ablation(args.config)
    seeds = parse_seeds(args.seeds) if args.seeds else ablation.seeds
    chosen = args.cells.split(",") if args.cells else list(ablation.cells)
    out = as_path(args.out)
    ledger = out / "tasks" / "-".join(("+".join(chosen), *map(str, seeds))) if args.task else out
    stored = [pair for file in (out / "sweep.json", *sorted(out.glob("tasks/*/sweep.json"))) for pair in read_rows(file).items()]
    runs = plan(to_dict(config), ablation, sorted({*seeds, *(seed for (_, seed), _ in stored)}), out)
    rows = {key: row for key, row in stored if key in runs and row["mark"] == runs[key].mark}
    todo = [runs[cell, seed] for seed in seeds for cell in with_starts(chosen, ablation.cells)]
    for run in todo:
        if run.seed == seeds[0]:
            with naming(run.cell):
                Program(run.experiment)  # a batch that the devices or experts cannot share evenly is told before any training
    ledger.mkdir(parents=True, exist_ok=True)
    for i, run in enumerate(todo):
        if (run.cell, run.seed) not in rows:
            rows[run.cell, run.seed] = perform(run, rows, out, ledger, args.quiet)
        row = rows[run.cell, run.seed]
        print(f"{i + 1}/{len(todo)} {run.name}: {row['failed'] or headline(row, ablation.metrics)}", file=sys.stderr, flush=True)
        mine = {(r.cell, r.seed) for r in todo} if args.task else rows.keys()
        write(ledger, args.config, ablation, {key: row for key, row in rows.items() if key in mine})
    if args.task:
        return 0
    summary = write(out, args.config, ablation, rows)
    show(summary, ablation)
    with written_to(out / "sweep.png") as picture:
        draw_dots(picture, summary, shown(summary, ablation.metrics), ablation.tables or {"": list(summary)})
    return 0


# --- what is to be done ----------------------------------------------------------------------------------------------------


def read_ablation(path: str) -> Ablation:
    """The Ablation of "FILE.py[:size]". Errors: UserError where the file has no CELLS."""
    file, _, size = path.partition(":")
    module = load_file(file)
    found = {
        name: getattr(module, name.upper()) for name in ("cells", "seeds", "metrics", "controls", "tables") if hasattr(module, name.upper())
    }
    if hasattr(module, "cells"):
        found["cells"] = module.cells(size) if size else module.cells()
    if not found.get("cells"):
        raise UserError(f"config={path!r}: the file has no CELLS; `vilg train` runs a single experiment")
    if "seeds" in found:
        found["seeds"] = parse_seeds(",".join(map(str, found["seeds"])))
    return Ablation(**found)


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds of "0,1,2"."""
    parts = [part.strip() for part in text.split(",")]
    require(all(re.fullmatch(r"[0-9]+", part) for part in parts), "seeds", text, "must be whole numbers joined by commas, such as 0,1,2")
    return tuple(dict.fromkeys(int(part) for part in parts))


def with_starts(chosen: Sequence[str], cells: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The chosen cells and those that they start from, in the file's order."""
    needed = set()
    for name in chosen:
        lookup(cells, name, "cells")
        while name in cells and name not in needed:
            needed.add(name)
            name = cells[name].get("training.start_from", "")
    return [name for name in cells if name in needed]


def plan(base: dict[str, Any], ablation: Ablation, seeds: Sequence[int], out: Place) -> dict[tuple[str, int], Run]:
    """Every run of the ablation, by cell and seed; all that a config can have wrong is told here."""
    codecs: dict[Any, tuple[str, bool]] = {}
    shared_codec(build_experiment(base), codecs, out / "codec")
    runs: dict[tuple[str, int], Run] = {}
    marks: dict[tuple[str, int], str] = {}  # hashes of what decides a run's parameters
    places: dict[str, Place] = {}
    for cell, overrides in ablation.cells.items():
        with naming(cell):
            for seed in seeds:
                config = overridden(base, {**overrides, "seed": seed, "data.loader.seed": seed})
                start = config["training"].get("start_from", "")
                before = runs.get((start, seed))
                require(before is not None or start not in ablation.cells, "training.start_from", start, "must be a cell that comes before")
                experiment = build_experiment(config)
                if experiment.generator is not None:
                    config["codec"]["workdir"], own = shared_codec(experiment, codecs, out / f"codec_{cell}")
                config["training"]["start_from"] = str(before.workdir) if before else start
                mark = sha([experiment.hash, experiment.training.steps, marks[start, seed] if before else start])
                marks[cell, seed] = mark
                runs[cell, seed] = Run(
                    cell=cell,
                    seed=seed,
                    overrides=dict(overrides),
                    experiment=build_experiment(config),
                    workdir=places.setdefault(mark, out / cell / str(seed)),
                    codec=config["codec"]["workdir"] if experiment.generator is not None and own else "",
                    start=start if before else "",
                    mark=sha([mark, config["evals"]]),
                )
    return runs


def shared_codec(experiment: Experiment, codecs: dict[Any, tuple[str, bool]], place: Place) -> tuple[str, bool]:
    """The workdir of the experiment's codec, and whether it is trained there by the sweep: where one like it is, else the config's, else
    `place`. A codec without parameters needs none."""
    codec = experiment.codec_experiment
    if codec is None or not has_parameters(codec.codec):
        return "", False
    given = experiment.codec_workdir if not codecs else ""  # the base's config speaks of the base's codec
    return codecs.setdefault((codec.hash, codec.training.steps), (given, False) if given else (str(place), True))


@contextlib.contextmanager
def naming(cell: str) -> Iterator[None]:
    """A UserError inside names the cell."""
    try:
        yield
    except UserError as error:
        raise UserError(f"cell {cell!r}: {error}") from None


def overridden(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the config with dotted fields set; sections that are not there are made (build_experiment knows which may be)."""
    config = copy.deepcopy(dict(base))
    for field, value in overrides.items():
        *sections, last = field.split(".")
        owner = config
        for i, name in enumerate(sections):
            owner = owner.setdefault(name, {})
            require(isinstance(owner, dict), field, value, f"{'.'.join(sections[: i + 1])} is a value, not a section")
        owner[last] = copy.deepcopy(value)
    return to_dict(config)


def sha(content: Any) -> str:
    """A short hash of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


# --- doing it --------------------------------------------------------------------------------------------------------------


def perform(run: Run, rows: Mapping[tuple[str, int], Mapping[str, Any]], out: Place, ledger: Place, quiet: bool) -> dict[str, Any]:
    """Trains and evaluates a run: its row; `ledger` keeps what it took. What diverged is a row too."""
    training = run.experiment.training
    row: dict[str, Any] = {"cell": run.cell, "seed": run.seed, "overrides": run.overrides, "mark": run.mark}
    row |= {"workdir": str(run.workdir.relative_to(out)), "steps": training.steps, "batch_size": training.batch_size}
    row |= {"parameters": 0, "metrics": {}, "failed": ""}
    costs = Costs(ledger / "costs.json")
    try:
        if run.start and rows[run.start, run.seed]["failed"]:
            raise Diverged(f"{run.start}/{run.seed}, from which it starts, has failed")
        if run.codec:
            with costs.stage(as_path(run.codec).name, resumes=True):
                train(run.experiment.codec_experiment.config, run.codec, quiet, title="codec")
        with costs.stage(row["workdir"], resumes=True):
            train(run.experiment.config, run.workdir, quiet, title=run.name)
        session = open_session(str(run.workdir))
        row |= {"parameters": session.program.parameters, "metrics": measure(run, session)}
    except Diverged as error:
        row["failed"] = str(error)
    finally:
        open_session.cache_clear()
        jax.clear_caches()  # no run is cheaper for what another one compiled, and memory does not fill with programs
    for name, kept in (("cpu_seconds", costs.cpu_seconds), ("seconds", costs.seconds)):
        row[name] = kept.get(row["workdir"], 0.0)
    return row


def measure(run: Run, session: Any) -> dict[str, float]:
    """The evaluators' figures, the training loss at the end, and what else the run's last line says."""
    lines = read_metrics(run.workdir / "metrics.jsonl")
    losses = [line["loss"] for line in lines if line.get("loss") is not None]
    metrics = {"training/loss": float(np.mean(losses[-max(1, round(LAST * len(losses))) :]))} if losses else {}
    metrics |= {name: value for name, value in (lines[-1] if lines else {}).items() if "/" in name and isinstance(value, int | float)}
    return metrics | flat({name: evaluate(session) for name, evaluate in run.experiment.evals.items()})


# --- what came out ---------------------------------------------------------------------------------------------------------


def read_rows(path: Place) -> dict[tuple[str, int], dict[str, Any]]:
    """The rows of a sweep.json by cell and seed; none where there is no file."""
    if not path.is_file():
        return {}
    try:
        return {(row["cell"], row["seed"]): row for row in json.loads(path.read_text())["rows"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"out={str(path.parent)!r}: sweep.json cannot be read ({error}); remove it, finished runs are not trained again"
        ) from None


def write(out: Place, config: str, ablation: Ablation, rows: Mapping[tuple[str, int], Mapping[str, Any]]) -> Summary:
    """Writes sweep.json, in the order of cells and seeds; the summary in it."""
    cells = list(ablation.cells)
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (cells.index(key[0]), key[1]))]
    summary = summarize(ordered, ablation)
    content = {"config": config, "commit": commit(), "versions": versions(), "device": jax.devices()[0].device_kind}
    content |= {"metrics": dict(ablation.metrics), "rows": ordered, "summary": summary}
    temporary = out / "sweep.tmp"
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False))
    temporary.replace(out / "sweep.json")
    return summary


def summarize(rows: Sequence[Mapping[str, Any]], ablation: Ablation) -> Summary:
    """Of each cell's metrics: the mean over seeds and its 95 % t-interval; of shares whose trials are counted (A/n/B beside A/B) also the
    Wilson interval of all trials together; with a control the mean difference from it over the seeds that both have."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    trials: dict[tuple[str, str], float] = {}
    for row in rows:
        for metric in ablation.metrics if not row["failed"] else ():
            if metric not in row["metrics"]:
                continue
            found.setdefault(row["cell"], {}).setdefault(metric, {})[row["seed"]] = row["metrics"][metric]
            evaluator, _, name = metric.rpartition("/")
            trials[row["cell"], metric] = trials.get((row["cell"], metric), 0) + row["metrics"].get(f"{evaluator}/n/{name}", 0)
    summary: Summary = {cell: {} for cell in dict.fromkeys(row["cell"] for row in rows)}
    for cell, metrics in found.items():
        for metric, values in metrics.items():
            n, mean = int(trials[cell, metric]), float(np.mean(list(values.values())))
            entry = {"mean": mean, "values": list(values.values()), "t95": t_interval(list(values.values()))}
            entry |= {"trials": n, "wilson95": [round(x, 4) for x in interval(mean, n)] if n else None}
            other = found.get(ablation.controls.get(cell, ""), {}).get(metric, {})
            paired = [value - other[seed] for seed, value in values.items() if seed in other]
            if paired:
                entry["difference"] = {"control": ablation.controls[cell], "mean": float(np.mean(paired)), "t95": t_interval(paired)}
            summary[cell][metric] = entry
    return summary


def shown(summary: Summary, metrics: Mapping[str, str]) -> dict[str, str]:
    """The metrics that any cell has."""
    return {metric: title for metric, title in metrics.items() if any(metric in cell for cell in summary.values())}


def headline(row: Mapping[str, Any], metrics: Mapping[str, str]) -> str:
    """A row's main metrics in a line."""
    figures = [f"{title} {row['metrics'][metric]:.3f}" for metric, title in metrics.items() if metric in row["metrics"]]
    return ", ".join([*figures, f"{row['cpu_seconds']:.0f} CPU-seconds"])


def show(summary: Summary, ablation: Ablation) -> None:
    """The tables for people."""
    metrics = shown(summary, ablation.metrics)
    for title, cells in (ablation.tables or {"": list(summary)}).items():
        caption = "mean [95 %: Wilson of counted trials, else t over seeds]"
        caption += "; below it the difference from the control" if ablation.controls else ""
        table = Table(Column("cell", no_wrap=True), *metrics.values(), title=title or None, caption=caption)
        for cell in cells:
            if cell in summary:
                table.add_row(cell, *(figure(summary[cell].get(metric)) for metric in metrics))
        Console().print(table)


def figure(entry: Mapping[str, Any] | None) -> str:
    """A table's cell."""
    if entry is None:
        return "-"
    limits = entry["wilson95"] or entry["t95"]
    text = f"{entry['mean']:.3f}" + (f" [{limits[0]:.3f}, {limits[1]:.3f}]" if limits else "")
    if difference := entry.get("difference"):
        low_high = difference["t95"]
        text += f"\n{difference['mean']:+.3f}" + (f" [{low_high[0]:+.3f}, {low_high[1]:+.3f}]" if low_high else "")
    return text
