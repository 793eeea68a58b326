"""Processes: how diffusion destroys codes and restores them. `PROCESSES` is the table of
`generator.process.name`.
"""

import dataclasses
from typing import Any

from vilg.config import build, lookup
from vilg.processes.absorbing import Absorbing
from vilg.processes.base import DenoisingControls, Process, SamplingPlan
from vilg.processes.gaussian import Gaussian

PROCESSES: dict[str, type[Gaussian] | type[Absorbing]] = {
    "gaussian": Gaussian,
    "absorbing": Absorbing,
}

__all__ = ["PROCESSES", "DenoisingControls", "Process", "SamplingPlan", "build_process"]


def build_process(section: Any, vocabulary: int, path: str = "generator.process") -> Process:
    """The process that a config section names, with the codec's vocabulary if it has such a field.
    A Process is returned as it is.
    """
    if isinstance(section, Process):
        return section
    cls = lookup(PROCESSES, section.get("name"), f"{path}.name")
    fields = {field.name for field in dataclasses.fields(cls)}
    given = {"vocabulary": vocabulary} if "vocabulary" in fields else {}
    return build(cls, section, path, **given)
