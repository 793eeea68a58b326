"""The device mesh of a layout, and named shardings on it."""

import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vilg.parallel.layout import Layout


def make_mesh(layout: Layout, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over exactly these devices (jax.make_mesh silently leaves some out), with automatic
    axes. Of several slices, the data-centre network is crossed by the first axes only, as far as
    they divide, and everything else stays inside a slice."""
    devices = list(jax.devices() if devices is None else devices)
    sizes = layout.sizes(len(devices))
    auto = (AxisType.Auto,) * len(sizes)
    if devices[0].platform == "cpu":
        return Mesh(
            np.asarray(devices).reshape(tuple(sizes.values())), tuple(sizes), axis_types=auto
        )
    slices = len({getattr(d, "slice_index", 0) for d in devices})
    across = over_slices(list(sizes.values()), slices)
    inside = [size // n for size, n in zip(sizes.values(), across, strict=True)]

    def placed(split: bool) -> np.ndarray:
        """On the torus; `split`: an axis may be a part of one of its dimensions."""
        if slices > 1:
            return mesh_utils.create_hybrid_device_mesh(
                inside, across, devices, allow_split_physical_axes=split
            )
        return mesh_utils.create_device_mesh(inside, devices, allow_split_physical_axes=split)

    try:
        grid = placed(split=False)
    except NotImplementedError:  # no assignment of whole dimensions
        grid = placed(split=True)
    return Mesh(grid, tuple(sizes), axis_types=auto)


def over_slices(sizes: Sequence[int], slices: int) -> list[int]:
    """How often each mesh axis crosses from slice to slice: as often as it divides, the first axes
    first. The product is `slices`, if that divides the product of the sizes."""
    across = []
    for size in sizes:
        across.append(math.gcd(size, slices))
        slices //= across[-1]
    return across


def slice_places(devices: Sequence[jax.Device]) -> dict[tuple[int, int], int] | None:
    """{(slice, chip of it): position} of devices in the mesh's order, chips counted by their ids;
    None where there is one slice.
    """
    slices: dict[int, list[int]] = {}
    for device in devices:
        slices.setdefault(getattr(device, "slice_index", 0), []).append(device.id)
    if len(slices) < 2:
        return None
    chips = {
        id_: (slice_, k) for slice_, ids in slices.items() for k, id_ in enumerate(sorted(ids))
    }
    return {chips[device.id]: position for position, device in enumerate(devices)}


def resolver(layout: Layout, mesh: Mesh, table: str) -> Callable[..., NamedSharding]:
    """A function from (logical axes, shape) to the NamedSharding that the layout's table gives.
    `manual` mesh axes, over which a shard_map has already split the arrays, count as 1 and are left
    out, and the sharding is on the mesh of that shard_map."""

    def resolve(
        axes: Sequence[str | None], shape: Sequence[int], manual: Sequence[str] = ()
    ) -> NamedSharding:
        if not manual:
            return NamedSharding(mesh, layout.spec(table, tuple(axes), shape, dict(mesh.shape)))
        sizes = {a: 1 if a in manual else n for a, n in mesh.shape.items()}
        spec = [_without(s, manual) for s in layout.spec(table, tuple(axes), shape, sizes)]
        return NamedSharding(jax.sharding.get_abstract_mesh(), PartitionSpec(*spec))  # type: ignore[arg-type]

    return resolve


def _without(
    entry: str | tuple[str, ...] | None, manual: Sequence[str]
) -> str | tuple[str, ...] | None:
    if not isinstance(entry, tuple):
        return None if entry in manual else entry
    left = tuple(a for a in entry if a not in manual)
    return left if len(left) > 1 else left[0] if left else None


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())
