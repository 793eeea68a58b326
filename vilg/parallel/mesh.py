"""The device mesh of a layout, and shardings on it."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vilg.parallel.constrain import Resolver
from vilg.parallel.layout import Layout
from vilg.types import Device


def make_mesh(layout: Layout, devices: Sequence[Device] | None = None) -> Mesh:
    """A mesh over exactly these devices (jax.make_mesh silently leaves some out), with automatic
    axes.

    Of several slices, only the first mesh axes cross the data-centre network, as far as the number
    of slices divides them; all other axes stay inside a slice."""
    devices = list(jax.devices() if devices is None else devices)
    sizes = layout.sizes(len(devices))
    auto = (AxisType.Auto,) * len(sizes)
    if devices[0].platform == "cpu":
        grid = np.asarray(devices).reshape(tuple(sizes.values()))
        return Mesh(grid, tuple(sizes), axis_types=auto)
    slices = len({slice_of(d) for d in devices})
    across = over_slices(list(sizes.values()), slices)
    inside = [size // n for size, n in zip(sizes.values(), across, strict=True)]

    def torus(split: bool) -> np.ndarray:
        """The devices in the mesh's order; `split`: a mesh axis may be a part of a torus
        dimension.
        """
        if slices > 1:
            return mesh_utils.create_hybrid_device_mesh(
                inside, across, devices, allow_split_physical_axes=split
            )
        return mesh_utils.create_device_mesh(inside, devices, allow_split_physical_axes=split)

    try:
        grid = torus(split=False)
    except NotImplementedError:  # no assignment of mesh axes to whole torus dimensions
        grid = torus(split=True)
    return Mesh(grid, tuple(sizes), axis_types=auto)


def slice_of(device: Device) -> int:
    """The index of the device's slice; 0 for a platform that has no slices (CPU, GPU)."""
    try:
        return device.slice_index
    except AttributeError:
        return 0


def over_slices(sizes: Sequence[int], slices: int) -> list[int]:
    """How many slices each mesh axis spans: the first axes span as many as divide their sizes. The
    product is `slices`, if `slices` divides the product of the sizes.
    """
    across = []
    for size in sizes:
        across.append(math.gcd(size, slices))
        slices //= across[-1]
    return across


def slice_places(devices: Sequence[Device]) -> dict[tuple[int, int], int] | None:
    """{(slice, chip): position} of devices in the mesh's order, where the chips of a slice are
    numbered in the order of their ids; None for a single slice.
    """
    slices: dict[int, list[int]] = {}
    for device in devices:
        slices.setdefault(slice_of(device), []).append(device.id)
    if len(slices) < 2:
        return None
    chips = {
        id_: (slice_, k) for slice_, ids in slices.items() for k, id_ in enumerate(sorted(ids))
    }
    return {chips[device.id]: position for position, device in enumerate(devices)}


def resolver(layout: Layout, mesh: Mesh, rule_set: str) -> Resolver:
    """A function from (logical axes, shape) to the NamedSharding that one of the layout's rule sets
    gives.

    `manual` mesh axes, over which a shard_map has already split the arrays, count as size 1 and are
    left out of the sharding, which is then on the mesh of that shard_map."""

    def resolve(
        axes: Sequence[str | None], shape: Sequence[int], manual: Sequence[str] = ()
    ) -> NamedSharding:
        if not manual:
            spec = layout.spec(rule_set, tuple(axes), shape, dict(mesh.shape))
            return NamedSharding(mesh, spec)
        sizes = {a: 1 if a in manual else n for a, n in mesh.shape.items()}
        entries = [_without(s, manual) for s in layout.spec(rule_set, tuple(axes), shape, sizes)]
        return NamedSharding(  # type: ignore[arg-type]
            jax.sharding.get_abstract_mesh(), PartitionSpec(*entries)
        )

    return resolve


def _without(
    entry: str | tuple[str, ...] | None, manual: Sequence[str]
) -> str | tuple[str, ...] | None:
    if not isinstance(entry, tuple):
        return None if entry in manual else entry
    left = tuple(a for a in entry if a not in manual)
    return left if len(left) > 1 else left[0] if left else None


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array of which every device has a full copy."""
    return NamedSharding(mesh, PartitionSpec())
