"""The lock that keeps two runs from writing into one workdir: a lock of the operating system, or a
lease on an object store.

A lock of the operating system ends with its process. An object store has no locks: there the holder
renews a lease every few seconds, and a lease that was not renewed for a while is free. So a run
that is started again after a kill waits until the lease of the killed process has run out.
"""

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

# seconds between renewals; a lease is free when it was not renewed for four times as long
RENEWED = 10.0
# seconds after which every process reads the same holder, where several wrote at once
SETTLED = 2.0


def taken(directory: Place) -> UserError:
    """The error of a second run in the same workdir."""
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
    """Holds a lease: the file `.lock` with the holder's name, which a thread renews."""
    file, name = directory / ".lock", f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"

    def read() -> tuple[str, int]:
        try:
            lease = json.loads(file.read_text())
            return lease["holder"], lease["count"]
        except (FileNotFoundError, ValueError, KeyError):
            return "", 0

    # The clocks of hosts differ. So a lease counts as held when its number changes in the time in
    # which this process watches it.
    (holder, count), since = read(), time.monotonic()
    while holder and time.monotonic() - since <= 4 * renewed:
        time.sleep(renewed / 5)
        before, (holder, count) = (holder, count), read()
        if holder and (holder, count) != before:
            raise taken(directory)
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
