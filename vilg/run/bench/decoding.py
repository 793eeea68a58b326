"""Cached decoding steps under sparse patterns against cached steps under the dense pattern."""

from collections.abc import Callable, Sequence

import jax
from jaxtyping import Array, Float

from vilg.nn import decode_attention
from vilg.nn.patterns import PATTERNS
from vilg.run.bench.schedules import Sizes, schedule_mean
from vilg.run.bench.timing import Row, alternate

FIELDS = ("cached_step_seconds", "cached_step_cpu_seconds")
Cache = dict[str, Array]


def measure(sizes: Sizes, repeats: int, steps: int = 128, depth: int = 4) -> list[Row]:
    """Seconds of one layer's cached text_to_image step in a loop of `steps`, which begins at the
    start, in the middle and near the end of the image; a row for each pattern, and one with pattern
    "mix" for the mean over the schedule.

    As in a model, every step goes through `depth` layers with a cache each: the cache of a single
    layer would stay in the processor's cache. "vs_dense" is the dense pattern's time divided by
    this pattern's, by the wall clock; "vs_dense_cpu" the same in CPU-seconds of this process."""
    n = sizes.grid[0] * sizes.grid[1]
    steps = min(steps, n)
    loops = {pattern: decoding_loop(sizes, pattern, steps, depth) for pattern in PATTERNS}
    rows = []
    for start in sorted({0, (n - steps) // 2, n - steps}):
        calls = {pattern: lambda call=call, s=start: call(s) for pattern, call in loops.items()}
        measured: list[Row] = [
            {
                "benchmark": "decoding",
                "direction": "text_to_image",
                "pattern": pattern,
                "position": start,
                "cached_step_seconds": seconds.wall / steps / depth,
                "cached_step_cpu_seconds": seconds.cpu / steps / depth,
            }
            for pattern, seconds in alternate(calls, repeats).items()
        ]
        means = {field: schedule_mean(measured, field, sizes.layers) for field in FIELDS}
        rows += with_ratios([*measured, {**measured[0], "pattern": "mix", **means}])
    return rows


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """The rows with the dense pattern's time over theirs."""
    dense = next(row for row in rows if row["pattern"] == "dense")
    return [
        {
            **row,
            "vs_dense": dense["cached_step_seconds"] / row["cached_step_seconds"],
            "vs_dense_cpu": dense["cached_step_cpu_seconds"] / row["cached_step_cpu_seconds"],
        }
        for row in rows
    ]


def decoding_loop(sizes: Sizes, pattern: str, steps: int, depth: int) -> Callable[[int], Array]:
    """A compiled function of the first position: `steps` cached steps through `depth` layers."""
    geometry = sizes.geometry(pattern, "text_to_image")
    empty = decode_attention.init_cache(
        geometry, sizes.batch, sizes.heads, sizes.head_size, sizes.dtype
    )
    key = jax.random.key(1)
    caches: list[Cache] = [
        {
            name: jax.random.normal(jax.random.fold_in(key, 8 * k + i), x.shape, sizes.dtype)
            for i, (name, x) in enumerate(empty.items())
        }
        for k in range(depth)
    ]
    query = jax.random.normal(key, (sizes.batch, 1, sizes.heads, sizes.head_size), sizes.dtype)

    @jax.jit
    def loop(caches: list[Cache], query: Float[Array, "b 1 h k"], start: int | Array) -> Array:
        def body(step: Array, carry: tuple[list[Cache], Array]) -> tuple[list[Cache], Array]:
            caches, q = list(carry[0]), carry[1]
            for k in range(depth):
                out, caches[k] = decode_attention.decode_step(
                    caches[k], geometry, q, q, q, start + step
                )
                q = (q + 1e-3 * out).astype(q.dtype)
            return caches, q

        return jax.lax.fori_loop(0, steps, body, (caches, query))[1]

    return lambda start: loop(caches, query, start)
