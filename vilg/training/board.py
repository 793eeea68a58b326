"""tensorboardX's SummaryWriter, imported without two large packages.

tensorboardX imports torch and google.cloud.storage where they are installed. vilg uses neither, and
the import of torch alone takes two seconds of every process that trains.
"""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Within this context an import of these packages fails as if they were not installed, unless
    they were imported before.
    """
    absent = [name for name in names if name not in sys.modules]
    # Python raises ImportError for a module whose entry is None
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


with hidden("torch", "google.cloud.storage"):
    from tensorboardX import SummaryWriter

__all__ = ["SummaryWriter", "hidden"]
