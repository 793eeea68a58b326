"""The device mesh of a layout, and named shardings on it."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vilg.parallel.layout import Layout


def make_mesh(layout: Layout, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over exactly these devices (jax.make_mesh silently leaves some out), with automatic axes."""
    devices = list(jax.devices() if devices is None else devices)
    sizes = layout.sizes(len(devices))
    auto = (AxisType.Auto,) * len(sizes)
    if devices[0].platform == "cpu":
        return Mesh(np.asarray(devices).reshape(tuple(sizes.values())), tuple(sizes), axis_types=auto)
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=auto, devices=devices)


def resolver(layout: Layout, mesh: Mesh, table: str) -> Callable[[Sequence[str | None], Sequence[int]], NamedSharding]:
    """A function from (logical axes, shape) to the NamedSharding that the layout's table gives."""

    def resolve(axes: Sequence[str | None], shape: Sequence[int]) -> NamedSharding:
        return NamedSharding(mesh, layout.spec(table, tuple(axes), shape, dict(mesh.shape)))

    return resolve


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())
