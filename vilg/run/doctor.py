"""vilg doctor: the environment, the devices, and with --config whether the experiment would start
here. Exit code 1 if something is wrong.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from vilg.data.show import chinese_font
from vilg.evals import caption_gap
from vilg.experiment import build_experiment
from vilg.experiment_file import run_identity
from vilg.program import Program
from vilg.run.terminal.huge_pages import HUGE_PAGES
from vilg.types import NoiseConditional, UserError
from vilg.workdir.files import PACKAGES, Workdir, first_difference, versions
from vilg.workdir.session import open_session

LATENTS = 256  # validation pictures that the scale of latents is checked on
APART = 1.5  # factor by which their median deviation may differ from 1
RANGES = {
    "jax": ((0, 10), (0, 13)),
    "flax": ((0, 12), (0, 14)),
    "orbax-checkpoint": ((0, 12), (0, 14)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--workdir", help="also checks a run's files")


def main(args: argparse.Namespace, config: Any) -> int:
    """Prints a table of checks."""
    rows = [*environment(), *devices()]
    if config is not None:
        rows += experiment_rows(config)
    if args.workdir:
        rows += workdir_rows(args.workdir)
        rows += agreement_rows(config, args.workdir) if config is not None else []
    table = Table("check", "found", "verdict")
    for name, found, verdict in rows:
        table.add_row(name, found, verdict)
    Console().print(table)
    wrong = [
        f"{name}: {verdict}" for name, _, verdict in rows if not verdict.startswith(("ok", "note"))
    ]
    print("\n".join(wrong), end="\n" if wrong else "")  # whole: the table cuts long words
    return 1 if wrong else 0


def environment() -> list[tuple[str, str, str]]:
    """Versions and optional tools."""
    rows = [
        (
            "python",
            sys.version.split()[0],
            "ok" if sys.version_info >= (3, 11) else "wrong: needs 3.11 or newer",
        )
    ]
    found = versions()
    for package in PACKAGES:
        if package not in found:
            rows.append((package, "absent", "wrong: pip install -e ."))
            continue
        low, high = RANGES.get(package, ((0,), (10**6,)))
        number = tuple(int(p) for p in found[package].split(".")[:2] if p.isdigit())
        fine = low <= number < high
        rows.append(
            (package, found[package], "ok" if fine else f"wrong: tested from {low} to below {high}")
        )
    rows.append(("cpu cores", str(os.cpu_count()), "ok"))
    pages = HUGE_PAGES in os.environ.get("GLIBC_TUNABLES", "")
    rows.append(
        (
            "huge pages",
            "asked for" if pages else "not asked for",
            "ok" if pages else f"note: GLIBC_TUNABLES={HUGE_PAGES} makes CPUs faster",
        )
    )
    font = chinese_font()
    rows.append(
        (
            "font with Chinese",
            font or "none",
            "ok" if font else "note: contact sheets show code points; install fonts-noto-cjk",
        )
    )
    npm = shutil.which("npm")
    rows.append(
        ("npm", npm or "none", "ok" if npm else "note: only `vilg data prepare emoji` needs it")
    )
    if (
        importlib.util.find_spec("libtpu")
        and jax.default_backend() == "cpu"
        and not os.environ.get("JAX_PLATFORMS")
    ):
        rows.append(
            (
                "libtpu",
                importlib.metadata.version("libtpu"),
                "note: set JAX_PLATFORMS=cpu to start faster on a machine without TPU",
            )
        )
    return rows


def devices() -> list[tuple[str, str, str]]:
    """What JAX sees."""
    found = jax.devices()
    return [
        ("devices", f"{len(found)} x {found[0].device_kind} ({found[0].platform})", "ok"),
        ("processes", str(jax.process_count()), "ok"),
    ]


def experiment_rows(config: Any) -> list[tuple[str, str, str]]:
    """Whether the experiment builds, fits the devices, and where its codec would come from."""
    try:
        experiment = build_experiment(config)
        program = Program(experiment)
    except UserError as error:
        return [("config", "contradiction", f"wrong: {error}")]
    rows = [
        ("config", f"{program.parameters:,} parameters, hash {experiment.hash}", "ok"),
        (
            "layout",
            f"{program.layout.name} {program.sizes}, {program.sharded_fraction:.0%} sharded",
            "ok",
        ),
    ]
    for part in ("train", "valid"):
        try:
            size = len(getattr(experiment.data, part))
            rows.append(
                (f"data.{part}", f"{size:,} records", "ok" if size else "wrong: no records")
            )
        except UserError as error:
            rows.append((f"data.{part}", "not readable", f"wrong: {error}"))
    if experiment.model.reads_codes:
        given = experiment.codec_workdir
        if not given:
            rows.append(("codec", "will be trained first, into WORKDIR/codec", "ok"))
        else:
            rows += workdir_rows(given)
    return rows


def agreement_rows(config: Any, path: str) -> list[tuple[str, str, str]]:
    """Whether `vilg train` with this config would go on with the run."""
    try:
        difference = first_difference(
            run_identity(Workdir(path).read().config), run_identity(build_experiment(config).config)
        )
    except UserError:
        return []  # another row says what is wrong
    if difference is None:
        return [("config and workdir", "the same in what matters", "ok")]
    field, there, here = difference
    return [
        (
            "config and workdir",
            "differ",
            (
                f"wrong: the run has {field}={there!r}, the config {here!r}; give the same, or"
                " another --workdir"
            ),
        )
    ]


def workdir_rows(path: str) -> list[tuple[str, str, str]]:
    """A run's files."""
    directory = Workdir(path)
    try:
        experiment = build_experiment(directory.read().config)
        steps = sorted(int(p.name) for p in directory.checkpoints.glob("*") if p.name.isdigit())
        verdict = "ok" if steps else "note: no checkpoint yet"
        rows = [
            (
                f"workdir {path}",
                f"checkpoints {steps}, of {experiment.training.steps} steps",
                verdict,
            )
        ]
        if experiment.model.reads_codes and directory.text_file.is_file():
            model = directory.text_model(experiment)
            rows.append(("text model", f"{model.size} ids, {model.sha256[:12]}", "ok"))
        if isinstance(experiment.model, NoiseConditional) and directory.caption_gap.is_file():
            figures = json.loads(directory.caption_gap.read_text())
            found = f"largest {figures['largest']:.2f}, at noise {figures['largest_at_noise']:.2g}"
            rows.append(("caption gap", found, caption_gap.verdict(figures)))
        latents = directory.read().latents
        if steps and latents:
            rows.append(latent_row(path, latents))
        return rows
    except UserError as error:
        return [(f"workdir {path}", "not usable", f"wrong: {error}")]


def latent_row(path: str, stored: Mapping[str, Sequence[float]]) -> tuple[str, str, str]:
    """Whether the run's latents have unit variance under its stored scale."""
    session = open_session(path)
    experiment = session.experiment
    size = min(64, len(experiment.data.valid))
    batches = experiment.data.loader.once(
        experiment.data.valid,
        None,
        image_size=experiment.image_codec.image_size,
        batch_size=size,
        limit=LATENTS,
    )
    codes = session.codes(np.concatenate([b["image"][b["valid"]] for b in batches]))
    spread = codes.std((0, 1, 2))
    found = (
        f"stored deviations {min(stored['std']):.3g} to {max(stored['std']):.3g}; latents of"
        f" validation pictures have {np.median(spread):.2f}"
    )
    fine = 1 / APART < np.median(spread) < APART
    return (
        "latent scale",
        found,
        (
            "ok"
            if fine
            else (
                "wrong: the stored scale is not this codec's or this data's; train again in another"
                " --workdir"
            )
        ),
    )
