"""Block-wise attention against our dense path, and cached sparse steps against cached dense ones,
as ratios within one process.

Separate from the other benchmarks because it times single functions of nn/ rather than a Program;
hence it may call jax.jit. Contenders alternate, so that a busy machine slows both, and medians are
reported. Printing is left to `vilg bench`.

    python -c "from vilg.run import bench_attention as b; [print(row) for row in b.run()]"
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vilg.nn import attention, decode_attention
from vilg.nn.geometry import DIRECTIONS, Geometry
from vilg.nn.layer_patterns import schedule
from vilg.nn.patterns import PATTERNS, Grid, make_pattern

LITE = {"heads": 16, "head_size": 64, "text_length": 64, "grid": (32, 32), "batch": 1}
Row = dict[str, Any]


def run(layers: int = 24, repeats: int = 5, **sizes: Any) -> list[Row]:
    """All rows: attention forward + backward, its mix under the ERNIE-ViLG schedule of `layers`,
    then decoding steps likewise.

    `sizes` overrides entries of LITE. Rows have "benchmark" = "attention" or "decoding", and
    pattern "mix" for a weighted mean."""
    sizes = {**LITE, **sizes}
    return measure_attention(layers=layers, repeats=repeats, **sizes) + measure_decoding(
        layers=layers, repeats=repeats, **sizes
    )


def measure_attention(
    *,
    heads: int,
    head_size: int,
    text_length: int,
    grid: Grid,
    batch: int,
    layers: int = 24,
    repeats: int = 5,
    dtype: Any = jnp.float32,
) -> list[Row]:
    """Wall seconds and XLA temporary bytes of attention alone (q, k, v given), forward + backward,
    by pattern and direction.
    """
    keys = jax.random.split(jax.random.key(0), 4)
    shape = (batch, text_length + grid[0] * grid[1], heads, head_size)
    arrays = [jax.random.normal(key, shape, dtype) for key in keys]
    rows = []
    for direction in DIRECTIONS:
        found = []
        for pattern in PATTERNS:
            geometry = Geometry(make_pattern(pattern), direction, text_length, grid)

            def both(q, k, v, g, implementation, geometry=geometry):
                def forward(q, k, v):
                    return attention.attend(q, k, v, geometry, implementation)

                return jax.vjp(forward, q, k, v)[1](g)

            jitted = jax.jit(both, static_argnums=4)
            programs = {
                name: jitted.lower(*arrays, name).compile() for name in ("blockwise", "dense")
            }
            times = _alternate(
                {
                    name: lambda program=program: program(*arrays)
                    for name, program in programs.items()
                },
                repeats,
            )
            row: Row = {"benchmark": "attention", "direction": direction, "pattern": pattern}
            for name, program in programs.items():
                row[f"{name}_seconds"] = times[name][0]
                memory = program.memory_analysis()
                assert memory is not None, "this backend reports no memory use"
                row[f"{name}_temp_bytes"] = memory.temp_size_in_bytes
            found.append(_with_ratios(row))
        mix: Row = {"benchmark": "attention", "direction": direction, "pattern": "mix"}
        for field in (
            "blockwise_seconds",
            "blockwise_temp_bytes",
            "dense_seconds",
            "dense_temp_bytes",
        ):
            mix[field] = _weighted(found, field, layers)
        rows += [*found, _with_ratios(mix)]
    return rows


def measure_decoding(
    *,
    heads: int,
    head_size: int,
    text_length: int,
    grid: Grid,
    batch: int,
    layers: int = 24,
    repeats: int = 5,
    steps: int = 128,
    depth: int = 4,
    dtype: Any = jnp.float32,
) -> list[Row]:
    """Seconds of one layer's cached text_to_image step in a loop of `steps`, started at the
    beginning, middle and end of the image.

    As in a model, every step goes through `depth` layers with a cache each: the caches of one layer
    alone would stay in the processor's. "vs_dense" is the dense pattern's time over this one's by
    the wall clock, "vs_dense_cpu" by CPU-seconds of this process."""
    n = grid[0] * grid[1]
    steps = min(steps, n)
    programs = {}
    for pattern in PATTERNS:
        geometry = Geometry(make_pattern(pattern), "text_to_image", text_length, grid)
        empty = decode_attention.init_cache(geometry, batch, heads, head_size, dtype)
        key = jax.random.key(1)
        caches = [
            {
                name: jax.random.normal(jax.random.fold_in(key, 8 * k + i), x.shape, dtype)
                for i, (name, x) in enumerate(empty.items())
            }
            for k in range(depth)
        ]

        def loop(caches, q, start, geometry=geometry):
            def body(step, carry):
                caches, q = list(carry[0]), carry[1]
                for k in range(depth):
                    out, caches[k] = decode_attention.decode_step(
                        caches[k], geometry, q, q, q, start + step
                    )
                    q = (q + 1e-3 * out).astype(q.dtype)
                return caches, q

            return jax.lax.fori_loop(0, steps, body, (caches, q))[1]

        programs[pattern] = (
            jax.jit(loop),
            caches,
            jax.random.normal(key, (batch, 1, heads, head_size), dtype),
        )
    rows = []
    for start in sorted({0, (n - steps) // 2, n - steps}):
        calls = {
            pattern: lambda p=p, start=start: p[0](p[1], p[2], start)
            for pattern, p in programs.items()
        }
        found = []
        for pattern, (wall, cpu) in _alternate(calls, repeats).items():
            row = {
                "benchmark": "decoding",
                "direction": "text_to_image",
                "pattern": pattern,
                "position": start,
            }
            found.append(
                {
                    **row,
                    "cached_step_seconds": wall / steps / depth,
                    "cached_step_cpu_seconds": cpu / steps / depth,
                }
            )
        fields = ("cached_step_seconds", "cached_step_cpu_seconds")
        mix = {
            "benchmark": "decoding",
            "direction": "text_to_image",
            "pattern": "mix",
            "position": start,
        }
        found.append({**mix, **{field: _weighted(found, field, layers) for field in fields}})
        dense = next(row for row in found if row["pattern"] == "dense")
        for row in found:
            row["vs_dense"] = dense["cached_step_seconds"] / row["cached_step_seconds"]
            row["vs_dense_cpu"] = dense["cached_step_cpu_seconds"] / row["cached_step_cpu_seconds"]
        rows += found
    return rows


def _weighted(rows: list[Row], field: str, layers: int) -> float:
    """The mean of a field over the layers of the ERNIE-ViLG schedule."""
    counts = Counter(schedule("ernie_vilg", layers))
    return sum(row[field] * counts[row["pattern"]] for row in rows) / layers


def _with_ratios(row: Row) -> Row:
    speedup = row["dense_seconds"] / row["blockwise_seconds"]
    return {
        **row,
        "speedup": speedup,
        "temp_ratio": row["blockwise_temp_bytes"] / row["dense_temp_bytes"],
    }


def _alternate(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median (wall, CPU) seconds of each call, taken in turns after one warm-up."""
    for call in calls.values():
        jax.block_until_ready(call())
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            seen[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (statistics.median(w for w, _ in x), statistics.median(c for _, c in x))
        for name, x in seen.items()
    }
