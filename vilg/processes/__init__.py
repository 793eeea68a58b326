"""Processes: what diffusion does to codes. `PROCESSES` is the table that `generator.process.name`
resolves through.
"""

import dataclasses
from typing import Any

from vilg.config import build, lookup
from vilg.processes.absorbing import Absorbing
from vilg.processes.base import DenoisingControls, Plan, Process
from vilg.processes.gaussian import Gaussian

PROCESSES = {"gaussian": Gaussian, "absorbing": Absorbing}

__all__ = ["PROCESSES", "DenoisingControls", "Plan", "Process", "build_process"]


def build_process(section: Any, vocabulary: int, path: str = "generator.process") -> Process:
    """The process that a config section names; one that needs the codec's vocabulary is given it.
    What is built already stays.
    """
    if not hasattr(section, "items"):
        return section
    cls = lookup(PROCESSES, section.get("name"), f"{path}.name")
    given = (
        {"vocabulary": vocabulary}
        if "vocabulary" in {f.name for f in dataclasses.fields(cls)}
        else {}
    )
    return build(cls, section, path, **given)
