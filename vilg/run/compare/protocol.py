"""Checks that the contenders of `vilg compare` are evaluated alike, and lists their other
differences for the report."""

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
    """Errors: UserError that names the first field in which two runs are evaluated differently:
    data, size of pictures, evaluators.

    The sampling options may differ between generators, and so may the field `captions`, which does
    not change samples."""
    may_differ = {*SAMPLING_OPTIONS, "captions"}

    def protocol(run: Run) -> dict[str, Any]:
        evals = protocols(run.experiment)
        data = {
            k: v
            for k, v in run_identity(run.experiment.config)["data"].items()
            if k in ("train", "valid")
        }
        compared = {
            n: {k: v for k, v in p.items() if k not in may_differ} for n, p in evals.items()
        }
        return {
            "data": data,
            "image_size": run.experiment.image_codec.image_size,
            "evals": compared,
        }

    reference = runs[0]
    expected = protocol(reference)
    require(
        bool(expected["evals"]),
        "evals",
        list(reference.experiment.evals),
        f"of {reference.name} has no evaluator that samples; name one, such as scenes",
    )
    for run in runs[1:]:
        difference = first_difference(
            json.loads(json.dumps(expected)), json.loads(json.dumps(protocol(run)))
        )
        if difference:
            field, ours, theirs = difference
            raise UserError(
                f"protocols differ: {field} is {ours!r} in {reference.name} and {theirs!r} in"
                f" {run.name}; evaluate both the same way to compare them"
            )


def unmatched(runs: Sequence[Run]) -> dict[str, dict[str, object]]:
    """Facts that differ between the runs and may decide the comparison: {fact: {name: value}}."""
    facts_of: dict[str, dict[str, object]] = {}  # fact -> its value in each run
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
            facts_of.setdefault(name, {}).setdefault(run.name, value)
    return {
        name: values
        for name, values in facts_of.items()
        if len({json.dumps(x, sort_keys=True) for x in values.values()}) > 1
    }


def same_text(runs: Sequence[Run]) -> None:
    """Errors: UserError where the text models of the runs differ."""
    ids = {run.name: Workdir(run.workdir).read().text_sha256 for run in runs}
    require(
        len(set(ids.values())) == 1,
        "text model",
        ids,
        "is not the same in all runs; give them the same data.text and data.train",
    )
