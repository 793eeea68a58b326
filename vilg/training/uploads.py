"""Growing files of a workdir on an object store.

An object cannot be appended to, so the files are written to a local directory, and files that have
changed are uploaded from time to time. Separate from log.py, which appends lines to local files.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from vilg.paths import as_path, files


class Uploads:
    """A local directory, `here`, whose files are uploaded to the directory `remote`. The files that
    `continued` names are downloaded first, because the run appends to them.
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
        """Uploads the files that have changed, unless the last upload is less than `at_least`
        seconds ago.
        """
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
        """Uploads the files that have changed, and removes the local directory."""
        self.sync()
        self.folder.cleanup()
