"""One run a workdir: an OS lock where the file system has one, a lease where it has not.

An OS lock dies with its process. gs:// has none: there the holder writes its name every few
seconds, and what has not been renewed for a while is free. So the same command, given again after a
kill, waits for the lease of its former self to run out instead of being refused."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from vilg.paths import Place, is_remote
from vilg.types import UserError

# seconds between renewals; a lease that was not renewed for four times as long is free
RENEWED = 10.0
SETTLED = 2.0  # seconds after which the last of several that wrote at once is known


def taken(directory: Place) -> UserError:
    """What the second run is told."""
    return UserError(
        f"workdir={os.fspath(directory)!r}: another run is writing there; wait for it or choose"
        " another --workdir"
    )


@contextlib.contextmanager
def locked(directory: Place) -> Iterator[None]:
    """Holds the directory, which must exist. Errors: UserError while another process holds it."""
    if is_remote(directory):
        with leased(directory):
            yield
        return
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise taken(directory) from None
        yield


@contextlib.contextmanager
def leased(directory: Place, renewed: float = RENEWED, settled: float = SETTLED) -> Iterator[None]:
    """A lease: `.lock` with the holder's name, renewed by a thread."""
    file, name = directory / ".lock", f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"

    def read() -> tuple[str, int]:
        try:
            told = json.loads(file.read_text())
            return told["holder"], told["count"]
        except (FileNotFoundError, ValueError, KeyError):
            return "", 0

    before, since = read(), time.monotonic()
    while before[
        0
    ]:  # clocks of hosts differ: a lease is known to be alive by a count that moves while we look
        if time.monotonic() - since > 4 * renewed:
            break
        time.sleep(renewed / 5)
        now = read()
        if now != before and now[0]:
            raise taken(directory)
        before = now
    file.write_text(json.dumps({"holder": name, "count": 0}))
    time.sleep(settled)
    if read()[0] != name:
        raise taken(directory)
    ended = threading.Event()

    def renew() -> None:
        count = 0
        while not ended.wait(renewed):
            count += 1
            with contextlib.suppress(Exception):  # the next renewal may succeed
                file.write_text(json.dumps({"holder": name, "count": count}))

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        file.unlink(missing_ok=True)
