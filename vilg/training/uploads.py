"""Files that grow, on a store whose objects cannot: they are written on this machine and uploaded
whole, now and then.

Separate from log.py, which appends lines and knows nothing of stores.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from vilg.paths import as_path, files


class Uploads:
    """A local directory `here` whose files go to a remote one. `continued`: names that are fetched
    first, because they are appended to.
    """

    def __init__(self, remote: str | os.PathLike, continued: Sequence[str]):
        self.remote = as_path(remote)
        self.folder = tempfile.TemporaryDirectory(prefix="vilg-")
        self.here = Path(self.folder.name)
        self.sent: dict[Path, tuple[int, int]] = {}
        self.last = time.monotonic()
        for name in continued:
            if (self.remote / name).exists():
                (self.here / name).write_bytes((self.remote / name).read_bytes())

    def sync(self, at_least: float = 0.0) -> None:
        """Uploads what has changed, unless that was done less than so many seconds ago."""
        if at_least and time.monotonic() - self.last < at_least:
            return
        for file in files(self.here):
            state = (file.stat().st_size, file.stat().st_mtime_ns)
            if self.sent.get(file) != state:
                target = self.remote / file.relative_to(self.here).as_posix()
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
                self.sent[file] = state
        self.last = time.monotonic()

    def close(self) -> None:
        """Uploads the rest and removes the directory."""
        self.sync()
        self.folder.cleanup()
