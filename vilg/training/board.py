"""tensorboardX's SummaryWriter, without the packages that tensorboardX imports where they are
installed and that nothing here needs.

torch alone takes two seconds of every process that trains."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Packages that are not imported yet seem not to be installed."""
    absent = [name for name in names if name not in sys.modules]
    # None: an import of it is an ImportError
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


with hidden("torch", "google.cloud.storage"):
    from tensorboardX import SummaryWriter

__all__ = ["SummaryWriter", "hidden"]
