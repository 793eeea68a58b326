"""What has to be equal in all contenders of `vilg compare`, and what is not and is said."""

import json
from collections.abc import Sequence
from typing import Any

from vilg.config import require
from vilg.experiment_file import run_identity
from vilg.generators.options import SAMPLING_OPTIONS
from vilg.run.compare.measure import protocols
from vilg.run.compare.runs import Run
from vilg.types import UserError
from vilg.workdir.files import Workdir, first_difference


def same_protocol(runs: Sequence[Run]) -> None:
    """Errors: UserError naming the first field in which two runs are evaluated otherwise: data,
    size of pictures, evaluators. How a generator samples is its own; captions do not change
    samples."""
    own = {*SAMPLING_OPTIONS, "captions"}

    def protocol(run: Run) -> dict[str, Any]:
        evals = protocols(run.experiment)
        data = {
            k: v
            for k, v in run_identity(run.experiment.config)["data"].items()
            if k in ("train", "valid")
        }
        measured = {n: {k: v for k, v in p.items() if k not in own} for n, p in evals.items()}
        return {
            "data": data,
            "image_size": run.experiment.image_codec.image_size,
            "evals": measured,
        }

    first = protocol(runs[0])
    there = list(runs[0].experiment.evals)
    require(
        bool(first["evals"]),
        "evals",
        there,
        f"of {runs[0].name} has no evaluator that samples; name one, such as scenes",
    )
    for run in runs[1:]:
        difference = first_difference(
            json.loads(json.dumps(first)), json.loads(json.dumps(protocol(run)))
        )
        if difference:
            field, ours, theirs = difference
            raise UserError(
                f"protocols differ: {field} is {ours!r} in {runs[0].name} and {theirs!r} in"
                f" {run.name}; evaluate both the same way to compare them"
            )


def unmatched(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """What is not the same in all runs and may decide who wins: {what: {name: value}}."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        record = Workdir(run.workdir).read()
        facts = {
            "codec": record.codec_hash,
            "text model": (record.text_sha256 or "")[:12],
            "versions": record.versions,
        }
        facts |= {
            "loader": run.experiment.config["data"]["loader"] | {"seed": None},
            "knowledge": run.experiment.config["data"].get("knowledge"),
        }
        for name, value in facts.items():
            found.setdefault(name, {}).setdefault(run.name, value)
    return {
        k: v
        for k, v in found.items()
        if len({json.dumps(x, sort_keys=True) for x in v.values()}) > 1
    }


def same_text(runs: Sequence[Run]) -> None:
    """Errors: UserError where runs of one comparison have different ids."""
    ids = {run.name: Workdir(run.workdir).read().text_sha256 for run in runs}
    require(
        len(set(ids.values())) == 1,
        "text model",
        ids,
        "is not the same in all; give the same data.text and data.train",
    )
