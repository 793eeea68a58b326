"""`constrain(x, "batch", "length", "embed")`: says where an activation lives under the layout being traced.

Separate from the layouts so that models import this and nothing else. Flax's `with_logical_constraint` does nothing under
`with mesh:` (shared PITFALLS), so the placement is an explicit NamedSharding. Outside a Program (tests, notebooks) it is the identity.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax
from jax.sharding import NamedSharding

from vilg.parallel.axes import check_axes
from vilg.types import UserError

_resolve: contextvars.ContextVar[Callable[[tuple, tuple], NamedSharding] | None] = contextvars.ContextVar("resolve", default=None)


@contextlib.contextmanager
def placing(resolve: Callable[[tuple, tuple], NamedSharding]) -> Iterator[None]:
    """While tracing inside this context, `constrain` asks `resolve(axes, shape)` for the sharding."""
    token = _resolve.set(resolve)
    try:
        yield
    finally:
        _resolve.reset(token)


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
            f"an activation of shape {x.shape} with axes {axes} does not fit the mesh: {error}; choose training.batch_size, "
            "generator.caption_every or layout.name so that it divides"
        ) from None
    return jax.lax.with_sharding_constraint(x, sharding)
