"""Standard error whose reader may be gone: a line for a person must not end a computation."""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class TextStream(Protocol):
    """The methods of a text stream that Unread needs."""

    def write(self, text: str, /) -> int:
        """Writes the text; its length."""
        ...

    def flush(self) -> None:
        """Writes what is buffered."""
        ...

    def fileno(self) -> int:
        """The number of the file descriptor."""
        ...


class Unread:
    """A text stream that goes to /dev/null once its reader is gone (`vilg train 2>&1 | head`),
    where Python would raise BrokenPipeError. `written` is the time (time.monotonic) of the last
    write.
    """

    def __init__(self, stream: TextStream):
        self.stream = stream
        self.written = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes the text if there is a reader; its length."""
        with self._without_reader():
            self.stream.write(text)
        self.written = time.monotonic()
        return len(text)

    def flush(self) -> None:
        """Flushes the stream if there is a reader."""
        with self._without_reader():
            self.stream.flush()

    @contextlib.contextmanager
    def _without_reader(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
