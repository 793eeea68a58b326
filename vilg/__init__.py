"""vilg: text-to-image and image-to-text generators in JAX/Flax on a device mesh."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what editors know of the names below
    from vilg.api import Picture as Picture
    from vilg.api import Run as Run
    from vilg.api import load as load
    from vilg.types import UserError as UserError

__version__ = "0.1.0"

FRONT_DOOR = {
    "load": "vilg.api",
    "Run": "vilg.api",
    "Picture": "vilg.api",
    "UserError": "vilg.types",
}


def __getattr__(name: str) -> object:
    """The Python front door, imported when it is first used: `import vilg` alone is quick."""
    if name not in FRONT_DOOR:
        raise AttributeError(f"module 'vilg' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(FRONT_DOOR[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *FRONT_DOOR]
