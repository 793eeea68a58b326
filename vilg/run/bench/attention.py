"""Block-wise sparse attention against the dense path: forward and backward, by pattern and
direction.

This benchmark times a function of nn/, which belongs to no Program, so that it calls jax.jit
itself."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from vilg.nn import attention
from vilg.nn.geometry import DIRECTIONS, Geometry
from vilg.nn.patterns import PATTERNS
from vilg.run.bench import decoding
from vilg.run.bench.schedules import LITE, Sizes, schedule_mean
from vilg.run.bench.timing import Row, alternate

IMPLEMENTATIONS = ("blockwise", "dense")
FIELDS = [f"{name}_{what}" for name in IMPLEMENTATIONS for what in ("seconds", "temp_bytes")]


def run(lite: bool, sizes: Sizes = LITE, repeats: int = 5) -> list[Row]:
    """The rows of attention, then those of cached decoding steps (decoding.py)."""
    return measure(sizes, repeats) + decoding.measure(sizes, repeats)


def measure(sizes: Sizes, repeats: int) -> list[Row]:
    """Wall seconds and XLA's temporary bytes of attention alone, forward and backward; a row for
    each direction and pattern, and one with pattern "mix" for the mean over the schedule.
    """
    rows = []
    for direction in DIRECTIONS:
        measured = [measure_pattern(sizes, repeats, direction, pattern) for pattern in PATTERNS]
        mix: Row = {"benchmark": "attention", "direction": direction, "pattern": "mix"}
        mix |= {field: schedule_mean(measured, field, sizes.layers) for field in FIELDS}
        rows += [with_ratios(row) for row in (*measured, mix)]
    return rows


def measure_pattern(sizes: Sizes, repeats: int, direction: str, pattern: str) -> Row:
    """The row of one pattern, without ratios."""
    geometry = sizes.geometry(pattern, direction)
    shape = (sizes.batch, geometry.length, sizes.heads, sizes.head_size)
    keys = jax.random.split(jax.random.key(0), 4)
    arrays = [jax.random.normal(key, shape, sizes.dtype) for key in keys]
    jitted = jax.jit(forward_and_backward(geometry), static_argnums=4)
    programs = {name: jitted.lower(*arrays, name).compile() for name in IMPLEMENTATIONS}
    times = alternate({n: lambda p=program: p(*arrays) for n, program in programs.items()}, repeats)
    row: Row = {"benchmark": "attention", "direction": direction, "pattern": pattern}
    for name, program in programs.items():
        memory = program.memory_analysis()
        assert memory is not None, "this backend reports no memory use"
        row[f"{name}_seconds"] = times[name].wall
        row[f"{name}_temp_bytes"] = memory.temp_size_in_bytes
    return row


Heads = Float[Array, "b l h k"]


def forward_and_backward(
    geometry: Geometry,
) -> Callable[[Heads, Heads, Heads, Heads, str], tuple[Heads, Heads, Heads]]:
    """A function (q, k, v, gradient of the output, implementation) -> gradients of q, k and v."""

    def call(
        q: Heads, k: Heads, v: Heads, gradient: Heads, implementation: str
    ) -> tuple[Heads, Heads, Heads]:
        def forward(q: Heads, k: Heads, v: Heads) -> Heads:
            return attention.attend(q, k, v, geometry, implementation)

        return jax.vjp(forward, q, k, v)[1](gradient)

    return call


def with_ratios(row: Row) -> Row:
    """The row with the dense path's time over the block-wise one's, and the reverse of memory."""
    return {
        **row,
        "speedup": row["dense_seconds"] / row["blockwise_seconds"],
        "temp_ratio": row["blockwise_temp_bytes"] / row["dense_temp_bytes"],
    }
