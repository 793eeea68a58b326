"""Standard error that nobody may be reading any more: lines for people are no reason to lose what
is computed.
"""

import contextlib
import os
from typing import Any


class Unread:
    """A stream that goes to nowhere once its reader is gone (`vilg train 2>&1 | head`), where
    Python would raise BrokenPipeError.
    """

    def __init__(self, stream: Any):
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """As of a text stream."""
        with self._without_reader():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As of a text stream."""
        with self._without_reader():
            self.stream.flush()

    @contextlib.contextmanager
    def _without_reader(self) -> Any:
        try:
            yield
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
