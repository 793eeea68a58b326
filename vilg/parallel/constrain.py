"""`constrain(x, "batch", "length", "embed")`: says where an activation lives under the layout being
traced; `each` runs experts where they live, `shardwise` a function that XLA cannot split (a kernel)
on every device's own part.

Separate from the layouts so that models import this and nothing else. Flax's
`with_logical_constraint` does nothing under `with mesh:` (jax 0.10), so the placement is an
explicit NamedSharding. Outside a Program (tests, notebooks) it is the identity."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from vilg.parallel.axes import check_axes
from vilg.types import UserError

_resolve: contextvars.ContextVar[Callable[..., NamedSharding] | None] = contextvars.ContextVar(
    "resolve", default=None
)
_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


@contextlib.contextmanager
def placing(resolve: Callable[..., NamedSharding], platform: str | None = None) -> Iterator[None]:
    """While tracing inside this context, `constrain` asks `resolve(axes, shape)` for the sharding;
    `platform`: of the devices that the program is for (None: as outside), which in a plan are not
    those of this machine."""
    tokens = _resolve.set(resolve), _platform.set(platform or _platform.get())
    try:
        yield
    finally:
        _resolve.reset(tokens[0])
        _platform.reset(tokens[1])


def platform() -> str:
    """ "cpu", "gpu" or "tpu": of the devices that the traced program is for."""
    return _platform.get() or jax.default_backend()


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """x with the placement that the current layout gives these logical axes (one a dimension)."""
    check_axes(axes)
    if len(axes) != x.ndim:
        raise ValueError(f"constrain got {len(axes)} axes {axes} for an array of shape {x.shape}")
    resolve = _resolve.get()
    if resolve is None:
        return x
    try:
        sharding = resolve(axes, x.shape)
    except ValueError as error:
        raise UserError(
            f"an activation of shape {x.shape} with axes {axes} does not fit the mesh: {error};"
            " choose training.batch_size, generator.caption_every or layout.name so that it"
            " divides"
        ) from None
    return jax.lax.with_sharding_constraint(x, sharding)


def is_split(axis: str, size: int) -> bool:
    """Whether the layout being traced cuts a dimension of this logical axis and size."""
    resolve = _resolve.get()
    return resolve is not None and any(resolve((axis,), (size,)).spec)


def each(function: Callable, stacked: Any) -> Any:
    """`function` on every slice of a pytree of arrays along their first axis, "expert"; the results
    stacked likewise.

    Under a layout with a mesh axis for experts each group of devices goes through its own experts,
    one after another, and nothing of them moves between groups. Not vmap: over experts it makes
    grouped convolutions, and XLA's partitioning of those gave wrong sums (jax 0.10, CPU)."""
    n = jax.tree.leaves(stacked)[0].shape[0]
    resolve = _resolve.get()
    here = None if resolve is None else resolve(("expert",), (n,))
    axes = () if here is None or not here.spec else here.spec[0]
    axes = axes if isinstance(axes, tuple) else (axes,)
    if resolve is None or here is None or not axes or n == 1:
        return jax.lax.map(function, stacked)

    def group(part: Any) -> Any:
        with placing(functools.partial(resolve, manual=axes)):
            return jax.lax.map(function, part)

    split = PartitionSpec(axes if len(axes) > 1 else axes[0])
    return jax.shard_map(
        group,
        mesh=here.mesh,
        in_specs=split,
        out_specs=split,
        axis_names=set(axes),
        check_vma=False,
    )(stacked)


def shardwise(
    function: Callable, inputs: Sequence[Sequence[str | None]], output: Sequence[str | None]
) -> Callable:
    """`function` of arrays with these logical axes, run on each device's own part of them under the
    layout being traced; it must treat the parts alike and not talk. Needed where XLA cannot split
    an operation. Mesh axes that split none of the arrays do the same work twice."""

    def call(*arrays: jax.Array) -> Any:
        resolve = _resolve.get()
        if resolve is None:
            return function(*arrays)
        for axes in (*inputs, output):
            check_axes(tuple(axes))
        here = [resolve(axes, x.shape) for axes, x in zip(inputs, arrays, strict=True)]
        mesh = here[0].mesh
        if mesh.size == 1:
            return function(*arrays)
        result = resolve(output, jax.eval_shape(function, *arrays).shape)
        return jax.shard_map(
            function,
            mesh=mesh,
            in_specs=tuple(h.spec for h in here),
            out_specs=result.spec,
            check_vma=False,
        )(*arrays)

    return call
