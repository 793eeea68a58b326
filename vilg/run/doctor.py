"""vilg doctor checks the environment, the devices, and with --config whether the experiment would
start on this machine.

Exit code: 1 if something is wrong."""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
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

LATENTS = 256  # validation pictures on which the scale of latents is checked
TOLERANCE = 1.5  # factor by which the median deviation of latents may differ from 1
RANGES = {
    "jax": ((0, 10), (0, 13)),
    "flax": ((0, 12), (0, 14)),
    "orbax-checkpoint": ((0, 12), (0, 14)),
}


class Check(NamedTuple):
    """A row of the table. `verdict` begins with "ok", "note" or "wrong"."""

    name: str
    found: str
    verdict: str = "ok"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("--workdir", help="also checks a run's files")


def main(args: argparse.Namespace, config: ConfigDict | None) -> int:
    """Prints a table of checks; the exit code."""
    checks = [*check_environment(), *check_devices()]
    if config is not None:
        checks += check_experiment(config)
    if args.workdir:
        checks += check_workdir(args.workdir)
        checks += check_agreement(config, args.workdir) if config is not None else []
    table = Table("check", "found", "verdict")
    for check in checks:
        table.add_row(*check)
    Console().print(table)
    wrong = [f"{c.name}: {c.verdict}" for c in checks if not c.verdict.startswith(("ok", "note"))]
    print("\n".join(wrong), end="\n" if wrong else "")  # in full: the table cuts long words
    return 1 if wrong else 0


def check_environment() -> list[Check]:
    """Versions, and tools that are optional."""
    old = "wrong: needs 3.11 or newer"
    checks = [
        Check("python", sys.version.split()[0], "ok" if sys.version_info >= (3, 11) else old),
        *(check_package(package, versions().get(package)) for package in PACKAGES),
        Check("cpu cores", str(os.cpu_count())),
    ]
    pages = HUGE_PAGES in os.environ.get("GLIBC_TUNABLES", "")
    note = f"note: GLIBC_TUNABLES={HUGE_PAGES} makes CPUs faster"
    asked = "asked for" if pages else "not asked for"
    checks.append(Check("huge pages", asked, "ok" if pages else note))
    font = chinese_font()
    note = "note: contact sheets show code points; install fonts-noto-cjk"
    checks.append(Check("font with Chinese", font or "none", "ok" if font else note))
    npm = shutil.which("npm")
    note = "note: only `vilg data prepare emoji` needs it"
    checks.append(Check("npm", npm or "none", "ok" if npm else note))
    slow = jax.default_backend() == "cpu" and not os.environ.get("JAX_PLATFORMS")
    if importlib.util.find_spec("libtpu") and slow:
        note = "note: set JAX_PLATFORMS=cpu to start faster on a machine without TPU"
        checks.append(Check("libtpu", importlib.metadata.version("libtpu"), note))
    return checks


def check_package(package: str, version: str | None) -> Check:
    """Whether a package is there, in a version that was tested."""
    if version is None:
        return Check(package, "absent", "wrong: pip install -e .")
    low, high = RANGES.get(package, ((0,), (10**6,)))
    number = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    untested = f"wrong: tested from {low} to below {high}"
    return Check(package, version, "ok" if low <= number < high else untested)


def check_devices() -> list[Check]:
    """The devices and processes that JAX finds."""
    devices = jax.devices()
    kind = f"{devices[0].device_kind} ({devices[0].platform})"
    return [
        Check("devices", f"{len(devices)} x {kind}"),
        Check("processes", str(jax.process_count())),
    ]


def check_experiment(config: ConfigDict) -> list[Check]:
    """Whether the experiment can be built and fits the devices, whether its data can be read, and
    where its codec comes from.
    """
    try:
        experiment = build_experiment(config)
        program = Program(experiment)
    except UserError as error:
        return [Check("config", "contradiction", f"wrong: {error}")]
    sharded = f"{program.sharded_fraction:.0%} sharded"
    checks = [
        Check("config", f"{program.parameters:,} parameters, hash {experiment.hash}"),
        Check("layout", f"{program.layout.name} {program.sizes}, {sharded}"),
    ]
    sources = {"data.train": experiment.data.train, "data.valid": experiment.data.valid}
    for name, source in sources.items():
        try:
            size = len(source)
            verdict = "ok" if size else "wrong: no records"
            checks.append(Check(name, f"{size:,} records", verdict))
        except UserError as error:
            checks.append(Check(name, "not readable", f"wrong: {error}"))
    if experiment.model.reads_codes and experiment.codec_workdir:
        checks += check_workdir(experiment.codec_workdir)
    elif experiment.model.reads_codes:
        checks.append(Check("codec", "will be trained first, into WORKDIR/codec"))
    return checks


def check_agreement(config: ConfigDict, path: str) -> list[Check]:
    """Whether `vilg train` with this config would go on with the run."""
    try:
        stored = run_identity(Workdir(path).read().config)
        difference = first_difference(stored, run_identity(build_experiment(config).config))
    except UserError:
        return []  # another check says what is wrong
    name = "config and workdir"
    if difference is None:
        return [Check(name, "the same in what matters")]
    field, stored_value, given = difference
    verdict = (
        f"wrong: the run has {field}={stored_value!r}, the config {given!r}; give the same, or"
        " another --workdir"
    )
    return [Check(name, "differ", verdict)]


def check_workdir(path: str) -> list[Check]:
    """Whether a run's files can be used, and its caption gap and scale of latents, if it has
    them.
    """
    directory = Workdir(path)
    try:
        experiment = build_experiment(directory.read().config)
        steps = sorted(int(p.name) for p in directory.checkpoints.glob("*") if p.name.isdigit())
        done = f"checkpoints {steps}, of {experiment.training.steps} steps"
        none = "note: no checkpoint yet"
        checks = [Check(f"workdir {path}", done, "ok" if steps else none)]
        if experiment.model.reads_codes and directory.text_file.is_file():
            model = directory.text_model(experiment)
            checks.append(Check("text model", f"{model.size} ids, {model.sha256[:12]}"))
        if isinstance(experiment.model, NoiseConditional) and directory.caption_gap.is_file():
            gap = json.loads(directory.caption_gap.read_text())
            found = f"largest {gap['largest']:.2f}, at noise {gap['largest_at_noise']:.2g}"
            checks.append(Check("caption gap", found, caption_gap.verdict(gap)))
        latents = directory.read().latents
        if steps and latents:
            checks.append(check_latents(path, latents))
        return checks
    except UserError as error:
        return [Check(f"workdir {path}", "not usable", f"wrong: {error}")]


def check_latents(path: str, stored: Mapping[str, Sequence[float]]) -> Check:
    """Whether the run's latents have unit variance under its stored scale."""
    session = open_session(path)
    experiment = session.experiment
    batches = experiment.data.loader.once(
        experiment.data.valid,
        None,
        image_size=experiment.image_codec.image_size,
        batch_size=min(64, len(experiment.data.valid)),
        limit=LATENTS,
    )
    codes = session.codes(np.concatenate([b["image"][b["valid"]] for b in batches]))
    median = np.median(codes.std((0, 1, 2)))
    found = (
        f"stored deviations {min(stored['std']):.3g} to {max(stored['std']):.3g}; latents of"
        f" validation pictures have {median:.2f}"
    )
    wrong = (
        "wrong: the stored scale is not this codec's or this data's; train again in another"
        " --workdir"
    )
    return Check("latent scale", found, "ok" if 1 / TOLERANCE < median < TOLERANCE else wrong)
