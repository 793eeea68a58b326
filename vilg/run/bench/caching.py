"""Cached decoding of a picture's codes against running the whole stream again for every code."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from vilg.generators.guidance import Controls
from vilg.run.bench.models import random_generator
from vilg.run.bench.timing import Row, cpu_seconds
from vilg.types import Params


def run(lite: bool) -> list[Row]:
    """The rows at the width of ERNIE-ViLG's lite model."""
    return measure()


def measure(
    width: int = 1024,
    layers: int = 4,
    heads: int = 16,
    text: int = 64,
    side: int = 32,
    positions: int = 16,
) -> list[Row]:
    """CPU-seconds of decoding side x side codes; a row for dense and for sparse patterns.

    Without the cache, a forward pass costs the same for every code: it is timed at `positions`
    codes, and the median is multiplied by the number of codes."""
    rows = []
    for patterns in ("dense", "ernie_vilg"):
        generator, params, _ = random_generator(
            width, layers, heads, text, (side, side), patterns=patterns, scan=False
        )
        ids = jnp.full((1, text), 7, jnp.int32)
        keys = jax.random.split(jax.random.key(1), 1)
        cached = jax.jit(
            lambda p, generator=generator, ids=ids, keys=keys: generator.sample(
                p, ids, keys, Controls()
            )
        )
        codes = cached(params).reshape(1, -1)

        def next_code(
            p: Params, codes: Int[Array, "b n"], k: Array, generator=generator, ids=ids
        ) -> Int[Array, "b 1"]:
            logits = generator.network.apply({"params": p}, ids, codes, method="image_given_text")
            return jnp.argmax(jax.lax.dynamic_index_in_dim(logits, k, 1), -1)

        uncached = jax.jit(next_code)
        fast = cpu_seconds(lambda call=cached, p=params: call(p))
        slow = (
            side
            * side
            * statistics.median(
                cpu_seconds(lambda k=k, call=uncached, p=params, c=codes: call(p, c, k))
                for k in np.linspace(0, side * side - 1, positions).astype(int)
            )
        )
        rows.append(
            {
                "benchmark": "caching",
                "patterns": patterns,
                "width": width,
                "layers": layers,
                "codes": side * side,
                "cached_cpu_seconds": fast,
                "uncached_cpu_seconds": slow,
                "uncached_timed_at": positions,
                "speedup": slow / fast,
            }
        )
    return rows
