"""The options of every generator's sampler: one table, from which the command line and the
evaluators that sample are made.

Each generator has a dataclass of its own options (`controls_type`), whose fields carry their help.
"""

import dataclasses
from typing import Any

from vilg.generators import GENERATORS


@dataclasses.dataclass(frozen=True)
class SamplingOption:
    """An option of one or several generators."""

    name: str
    type: type
    help: str
    on_command_line: bool  # under its own name


def _options() -> dict[str, SamplingOption]:
    found: dict[str, SamplingOption] = {}
    for generator in GENERATORS.values():
        fields: Any = dataclasses.fields(generator.controls_type)
        for field in fields:
            meta = field.metadata
            option = SamplingOption(field.name, field.type, meta["help"], meta["cli"])
            found.setdefault(field.name, option)
    return found


SAMPLING_OPTIONS = _options()
