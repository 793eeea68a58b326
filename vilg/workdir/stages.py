"""The time that each stage of a long job takes, in a file, so that the times of a job that is
interrupted and resumed add up.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator

from vilg.paths import Place


class Costs:
    """Seconds and CPU-seconds of each stage, in the file `path`."""

    def __init__(self, path: Place):
        self.path = path
        self.seconds, self.cpu_seconds = json.loads(path.read_text()) if path.exists() else ({}, {})

    @contextlib.contextmanager
    def stage(self, name: str, resumes: bool = False) -> Iterator[None]:
        """Writes the time of the context, even if it ends by an exception. With `resumes` the time
        is added to the time that the file holds for this stage.
        """
        wall, cpu = time.time(), cpu_time()
        before = (self.seconds.get(name, 0), self.cpu_seconds.get(name, 0)) if resumes else (0, 0)
        try:
            yield
        finally:
            self.seconds[name] = round(before[0] + time.time() - wall, 1)
            self.cpu_seconds[name] = round(before[1] + cpu_time() - cpu, 1)
            self.path.write_text(json.dumps([self.seconds, self.cpu_seconds]))


def cpu_time() -> float:
    """CPU-seconds of this process and of its children that have ended."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system
