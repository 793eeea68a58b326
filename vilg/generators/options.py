"""The options of every generator's sampler in one table, from which the command line and the
evaluators that sample take them.

Each generator has a dataclass of its own options (`controls_type`), whose fields carry their help.
"""

import dataclasses
from typing import Any

from vilg.generators import GENERATORS


@dataclasses.dataclass(frozen=True)
class SamplingOption:
    """A sampling option of one generator or of several."""

    name: str
    type: type
    help: str
    on_command_line: bool  # whether the command line has it, under the same name


def _options() -> dict[str, SamplingOption]:
    options: dict[str, SamplingOption] = {}
    for generator in GENERATORS.values():
        fields: Any = dataclasses.fields(generator.controls_type)
        for field in fields:
            meta = field.metadata
            option = SamplingOption(field.name, field.type, meta["help"], meta["cli"])
            options.setdefault(field.name, option)
    return options


SAMPLING_OPTIONS = _options()
