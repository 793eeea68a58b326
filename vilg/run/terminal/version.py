"""`vilg --version`: versions of what computes results, and the devices that JAX finds."""

import importlib.metadata
import platform
from collections import Counter

import vilg

SHOWN = ("jax", "jaxlib", "flax")


def version_text() -> str:
    """Versions and devices, one a line.

    An accelerator that JAX cannot open is told in its line, since the versions are then needed
    most."""
    lines = {"vilg": vilg.__version__, "python": platform.python_version()}
    for package in SHOWN:
        lines[package] = importlib.metadata.version(package)
    return "\n".join(
        f"{name:<8} {value}" for name, value in {**lines, "devices": devices()}.items()
    )


def devices() -> str:
    """The devices by kind with their number, such as "8 x TPU v5p"."""
    import jax

    try:
        kinds = Counter(device.device_kind for device in jax.devices())
    except RuntimeError as error:  # a TPU that another process holds, a driver that is too old
        return f"none ({' '.join(str(error).split())})"
    return ", ".join(f"{number} x {kind}" for kind, number in kinds.items())
