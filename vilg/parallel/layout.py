"""A layout as data: which mesh axes split which logical axes of parameters and activations.

Flax's own resolver silently replicates a logical axis that has no rule, and silently drops a
second dimension that claims a mesh axis. The resolver of this module, `Layout.spec`, reports both.
A rule maps one logical axis, or alternatives "a|b", of which the first that is in the array and
whose length divides is split, to one mesh axis or to several. A logical axis without a rule is
replicated on purpose: the rules of layouts.py are short enough to be read in full."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jax.sharding import PartitionSpec

from vilg.parallel.axes import AXES
from vilg.types import UserError

Rules = Mapping[str, str | tuple[str, ...]]  # {logical axis or "a|b": mesh axis or mesh axes}
RULE_SETS = ("params", "gradients", "optimizer", "compute")  # compute: activations
SHOWN = 8  # parameters that an error names


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where every array lives.

    `mesh` gives the size of each mesh axis, the axis with the slowest link first. A size is a
    number, -1 (all devices that are left; at most one axis) or the name of a logical axis, which
    means the greatest common divisor of that axis's length in the parameters and of the number of
    devices (`bound` replaces the name by the number). With `offload`, the optimizer's state lives
    in the host's memory."""

    name: str
    mesh: Mapping[str, int | str]
    params: Rules
    gradients: Rules
    optimizer: Rules
    compute: Rules
    offload: bool = False

    def __post_init__(self) -> None:
        for rule_set in RULE_SETS:
            for logical, axes in self.rules(rule_set).items():
                for alternative in logical.split("|"):
                    if alternative not in AXES:
                        raise ValueError(
                            f"layout {self.name}: {rule_set} names the unknown logical axis"
                            f" {alternative!r}"
                        )
                for axis in _tuple(axes):
                    if axis not in self.mesh:
                        raise ValueError(
                            f"layout {self.name}: {rule_set}[{logical!r}] names {axis!r}, absent"
                            f" from the mesh {dict(self.mesh)}"
                        )

    def rules(self, rule_set: str) -> Rules:
        """The rules of one of RULE_SETS."""
        return {
            "params": self.params,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "compute": self.compute,
        }[rule_set]

    def bound(self, lengths: Mapping[str, int], devices: int) -> "Layout":
        """The layout with numbers in place of sizes that name a logical axis; `lengths` are those
        of the parameters' logical axes (1 where absent).
        """
        mesh = {
            a: math.gcd(lengths.get(s, 1), devices) if isinstance(s, str) else s
            for a, s in self.mesh.items()
        }
        return dataclasses.replace(self, mesh=mesh)

    def sizes(self, devices: int) -> dict[str, int]:
        """The mesh sizes for a number of devices; a size that is not bound counts as 1. Errors:
        UserError that says which sizes would fit.
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
            example = [f"{a}={devices if i == 0 else 1}" for i, a in enumerate(self.mesh)]
            raise UserError(
                f"layout.name={self.name!r}: the mesh {dict(self.mesh)} does not fit {devices}"
                f" device(s); choose sizes whose product is {devices}, for example"
                f" layout.name='{':'.join([self.name.split(':')[0], *example])}',"
                " or a layout with fewer axes"
            )
        return {a: devices // fixed if s == -1 else s for a, s in mesh.items()}

    def spec(
        self,
        rule_set: str,
        axes: Sequence[str | None],
        shape: Sequence[int],
        sizes: Mapping[str, int],
    ) -> PartitionSpec:
        """The PartitionSpec of an array with these logical axes, on a mesh of these sizes. Errors:
        ValueError when a size does not divide or a mesh axis is claimed twice.
        """
        spec: list[str | tuple[str, ...] | None] = [None] * len(axes)
        for logical, rule in self.rules(rule_set).items():
            mesh_axes = _tuple(rule)
            size = math.prod(sizes[a] for a in mesh_axes)
            alternatives = logical.split("|")
            candidates = [axes.index(a) for a in alternatives if a in axes]
            fitting = [i for i in candidates if shape[i] % size == 0 and spec[i] is None]
            if not candidates or (not fitting and len(alternatives) > 1):
                continue  # a small kernel that no alternative divides is replicated; Fit counts it
            if not fitting:
                raise ValueError(
                    f"axis {logical!r} has size {shape[candidates[0]]}, which"
                    f" {'x'.join(mesh_axes)} = {size} does not divide"
                )
            taken = {a for s in spec if s is not None for a in _tuple(s)}
            if clash := taken & set(mesh_axes):
                raise ValueError(
                    f"axes {tuple(axes)} claim the mesh axis {sorted(clash)[0]!r} twice"
                )
            spec[fitting[0]] = mesh_axes[0] if len(mesh_axes) == 1 else mesh_axes
        while spec and spec[-1] is None:
            spec.pop()
        return PartitionSpec(*spec)

    def check(
        self, parameters: Mapping[str, tuple[Sequence[str | None], Sequence[int]]], devices: int
    ) -> None:
        """Checks parameters, {name: (logical axes, shape)}, before anything is compiled. Errors:
        one UserError for all parameters that do not fit the mesh.
        """
        sizes = self.sizes(devices)
        problems = []
        for name, (axes, shape) in parameters.items():
            for rule_set in ("params", "gradients", "optimizer"):
                try:
                    self.spec(rule_set, axes, shape, sizes)
                except ValueError as error:
                    problems.append(f"{name} {tuple(shape)}: {error}")
                    break
        if problems:
            more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise UserError(
                f"layout.name={self.name!r} on {devices} devices (mesh {sizes}):"
                f" {'; '.join(problems[:SHOWN])}{more}. Choose mesh sizes that divide these"
            )


def _tuple(axes: str | tuple[str, ...]) -> tuple[str, ...]:
    return axes if isinstance(axes, tuple) else (axes,)
