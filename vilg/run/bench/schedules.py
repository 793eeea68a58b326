"""Sizes of the layers that the benchmarks of attention and decoding time, and means over the
ERNIE-ViLG schedule of their patterns.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from vilg.nn.geometry import Geometry
from vilg.nn.layer_patterns import schedule
from vilg.nn.patterns import Grid, make_pattern
from vilg.run.bench.timing import Row


@dataclass(frozen=True)
class Sizes:
    """One layer's sizes, by default those of ERNIE-ViLG's lite model; `layers` is the length of the
    schedule.
    """

    heads: int = 16
    head_size: int = 64
    text_length: int = 64
    grid: Grid = (32, 32)
    batch: int = 1
    layers: int = 24
    dtype: jnp.dtype = jnp.dtype(jnp.float32)

    def geometry(self, pattern: str, direction: str) -> Geometry:
        """Which positions of a layer attend to which under a pattern, in a direction."""
        return Geometry(make_pattern(pattern), direction, self.text_length, self.grid)


LITE = Sizes()


def schedule_mean(rows: Sequence[Row], field: str, layers: int) -> float:
    """The mean of a field over the layers of the ERNIE-ViLG schedule; `rows` has one row for each
    pattern.
    """
    counts = Counter(schedule("ernie_vilg", layers))
    return sum(row[field] * counts[row["pattern"]] for row in rows) / layers
