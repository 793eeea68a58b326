"""Placement of activations while a program is traced: `constrain(x, "batch", "length", "embed")`.

`map_experts` runs experts where they live, and `shardwise` runs a function that XLA cannot split (a
kernel) on each device's own part of its arrays.

Separate from the layouts, so that models import this module and nothing else of the package. Flax's
`with_logical_constraint` does nothing under `with mesh:` (jax 0.10), so `constrain` uses an
explicit NamedSharding. Outside a Program (tests, notebooks) `constrain` is the identity."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from vilg.parallel.axes import check_axes
from vilg.types import UserError


class Resolver(Protocol):
    """From logical axes and a shape to a sharding (`mesh.resolver` makes one for a layout)."""

    def __call__(
        self, axes: Sequence[str | None], shape: Sequence[int], manual: Sequence[str] = ()
    ) -> NamedSharding:
        """`manual`: mesh axes over which a shard_map has already split the arrays."""
        ...


_resolver: contextvars.ContextVar[Resolver | None] = contextvars.ContextVar(
    "resolver", default=None
)
_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


@contextlib.contextmanager
def placing(resolve: Resolver, platform: str | None = None) -> Iterator[None]:
    """While a function is traced inside this context, `resolve` gives the shardings of `constrain`.

    `platform` is that of the devices for which the program is compiled, which `vilg plan` may not
    have in this machine; None leaves the platform as it is outside the context."""
    tokens = _resolver.set(resolve), _platform.set(platform or _platform.get())
    try:
        yield
    finally:
        _resolver.reset(tokens[0])
        _platform.reset(tokens[1])


def platform() -> str:
    """The platform for which the traced program is compiled: "cpu", "gpu" or "tpu"."""
    return _platform.get() or jax.default_backend()


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """x, placed as the layout being traced places an array with these axes (one a dimension)."""
    check_axes(axes)
    if len(axes) != x.ndim:
        raise ValueError(f"constrain got {len(axes)} axes {axes} for an array of shape {x.shape}")
    resolve = _resolver.get()
    if resolve is None:
        return x
    try:
        sharding = resolve(axes, x.shape)
    except ValueError as error:
        raise UserError(
            f"an activation of shape {x.shape} with axes {axes} does not fit the mesh: {error};"
            " choose training.batch_size, generator.caption_every or layout.name so that the mesh"
            " divides the shape"
        ) from None
    return jax.lax.with_sharding_constraint(x, sharding)


def is_split(axis: str, size: int) -> bool:
    """Whether the layout being traced splits a dimension of this logical axis and size."""
    resolve = _resolver.get()
    return resolve is not None and any(resolve((axis,), (size,)).spec)


def map_experts(function: Callable, stacked: PyTree) -> PyTree:
    """The stacked results of `function` for every slice of a pytree of arrays along their first
    axis, "expert".

    Under a layout with a mesh axis for experts, each group of devices computes its own experts, one
    after another, and nothing of them moves between groups. vmap would turn convolutions of experts
    into grouped convolutions, of which XLA's partitioner gave wrong sums (jax 0.10, CPU)."""
    n = jax.tree.leaves(stacked)[0].shape[0]
    resolve = _resolver.get()
    sharding = None if resolve is None else resolve(("expert",), (n,))
    axes = () if sharding is None or not sharding.spec else sharding.spec[0]
    axes = axes if isinstance(axes, tuple) else (axes,)
    if resolve is None or sharding is None or not axes or n == 1:
        return jax.lax.map(function, stacked)

    def group(part: Any) -> Any:
        with placing(functools.partial(resolve, manual=axes)):
            return jax.lax.map(function, part)

    spec = PartitionSpec(axes[0] if len(axes) == 1 else axes)
    return jax.shard_map(
        group,
        mesh=sharding.mesh,
        in_specs=spec,
        out_specs=spec,
        axis_names=set(axes),
        check_vma=False,
    )(stacked)


def shardwise(
    function: Callable, inputs: Sequence[Sequence[str | None]], output: Sequence[str | None]
) -> Callable:
    """`function` of arrays with these logical axes, run on each device's own part of the arrays as
    the layout being traced splits them. Needed for an operation that XLA cannot split.

    `function` must treat all parts alike and must not communicate. Mesh axes that split none of the
    arrays repeat the same work."""

    def call(*arrays: jax.Array) -> Any:
        resolve = _resolver.get()
        if resolve is None:
            return function(*arrays)
        for axes in (*inputs, output):
            check_axes(tuple(axes))
        shardings = [resolve(axes, x.shape) for axes, x in zip(inputs, arrays, strict=True)]
        mesh = shardings[0].mesh
        if mesh.size == 1:
            return function(*arrays)
        specs = tuple(sharding.spec for sharding in shardings)
        result = resolve(output, jax.eval_shape(function, *arrays).shape).spec
        return jax.shard_map(
            function, mesh=mesh, in_specs=specs, out_specs=result, check_vma=False
        )(*arrays)

    return call
