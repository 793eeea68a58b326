"""Layout: where every array lives, as data. The resolver from logical axes to mesh axes is ours,
not Flax's.

Flax silently replicates a logical name without a rule and silently drops the second dimension that
claims a mesh axis; here both are said. A rule maps one logical axis, or alternatives "a|b" (the
first one in the array that divides), to one mesh axis or several. An axis without a rule is
replicated on purpose: the tables of layouts.py are short enough to read whole."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import PartitionSpec

from vilg.parallel.axes import AXES
from vilg.types import UserError

Rules = Mapping[str, str | tuple[str, ...]]
TABLES = ("params", "gradients", "optimizer", "compute")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where every array lives: `mesh` is ordered, slowest link first. A size is a number, -1 (what
    is left; at most one) or a logical axis: the greatest common divisor of that axis's length in
    the parameters and the number of devices (`bound` puts the number there). With `offload` the
    optimizer's state is in the host's memory."""

    name: str
    mesh: Mapping[str, int | str]
    params: Rules
    gradients: Rules
    optimizer: Rules
    compute: Rules
    offload: bool = False

    def __post_init__(self) -> None:
        for table in TABLES:
            for logical, axes in getattr(self, table).items():
                for one in logical.split("|"):
                    if one not in AXES:
                        raise ValueError(
                            f"layout {self.name}: {table} names the unknown logical axis {one!r}"
                        )
                for axis in _tuple(axes):
                    if axis not in self.mesh:
                        raise ValueError(
                            f"layout {self.name}: {table}[{logical!r}] names {axis!r}, absent from"
                            f" the mesh {dict(self.mesh)}"
                        )

    def bound(self, lengths: Mapping[str, int], devices: int) -> "Layout":
        """The layout with numbers for sizes that name a logical axis; `lengths` are those of the
        parameters' axes (1 where absent).
        """
        mesh = {
            a: math.gcd(lengths.get(s, 1), devices) if isinstance(s, str) else s
            for a, s in self.mesh.items()
        }
        return dataclasses.replace(self, mesh=mesh)

    def sizes(self, devices: int) -> dict[str, int]:
        """Mesh sizes for a number of devices, or a UserError that says which sizes would fit. A
        size that is not bound counts as 1.
        """
        mesh = {a: 1 if isinstance(s, str) else s for a, s in self.mesh.items()}
        fixed = math.prod(s for s in mesh.values() if s != -1)
        free = [a for a, s in mesh.items() if s == -1]
        if any(s < 1 and s != -1 for s in mesh.values()) or len(free) > 1:
            raise UserError(
                f"layout.name={self.name!r}: sizes must be at least 1 and only one may be -1; got"
                f" {dict(self.mesh)}"
            )
        if devices % fixed or (not free and fixed != devices):
            raise UserError(
                f"layout.name={self.name!r}: the mesh {dict(self.mesh)} does not fit {devices}"
                f" device(s); choose sizes whose product is {devices}, for example"
                f" layout.name='{':'.join([self.name.split(':')[0], *self._one_axis(devices)])}',"
                " or a layout with fewer axes"
            )
        return {a: devices // fixed if s == -1 else s for a, s in mesh.items()}

    def _one_axis(self, devices: int) -> list[str]:
        """ "axis=size" of every axis, the first with all devices."""
        return [f"{a}={devices if i == 0 else 1}" for i, a in enumerate(self.mesh)]

    def spec(
        self, table: str, axes: Sequence[str | None], shape: Sequence[int], sizes: Mapping[str, int]
    ) -> PartitionSpec:
        """The PartitionSpec of an array with these logical axes. Errors: ValueError when a size
        does not divide or a mesh axis is claimed twice.
        """
        spec: list[Any] = [None] * len(axes)
        for logical, mesh_axes in getattr(self, table).items():
            mesh_axes = _tuple(mesh_axes)
            size = math.prod(sizes[a] for a in mesh_axes)
            alternatives = logical.split("|")
            candidates = [axes.index(one) for one in alternatives if one in axes]
            if not candidates:
                continue
            fitting = [i for i in candidates if shape[i] % size == 0 and spec[i] is None]
            if not fitting:
                if len(alternatives) > 1:
                    # a small kernel that no alternative divides stays whole; Program counts what
                    # stays whole
                    continue
                i = candidates[0]
                raise ValueError(
                    f"axis {logical!r} has size {shape[i]}, which {'x'.join(mesh_axes)} = {size}"
                    " does not divide"
                )
            taken = {a for s in spec if s is not None for a in _tuple(s)}
            clash = taken & set(mesh_axes)
            if clash:
                raise ValueError(
                    f"axes {tuple(axes)} claim the mesh axis {sorted(clash)[0]!r} twice"
                )
            spec[fitting[0]] = mesh_axes if len(mesh_axes) > 1 else mesh_axes[0]
        while spec and spec[-1] is None:
            spec.pop()
        return PartitionSpec(*spec)

    def check(
        self, named_shapes: Mapping[str, tuple[Sequence[str | None], Sequence[int]]], devices: int
    ) -> None:
        """Reports every parameter that does not fit the mesh, all at once, before anything is
        compiled.
        """
        sizes = self.sizes(devices)
        problems = []
        for name, (axes, shape) in named_shapes.items():
            for table in ("params", "gradients", "optimizer"):
                try:
                    self.spec(table, axes, shape, sizes)
                except ValueError as error:
                    problems.append(f"{name} {tuple(shape)}: {error}")
                    break
        if problems:
            shown = "; ".join(problems[:8]) + (
                f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
            )
            raise UserError(
                f"layout.name={self.name!r} on {devices} devices (mesh {sizes}): {shown}. Choose"
                " mesh sizes that divide these"
            )


def _tuple(axes: str | tuple[str, ...]) -> tuple[str, ...]:
    return axes if isinstance(axes, tuple) else (axes,)
