"""Which times training sees, as (cdf, inverse): a slice of time and stratification then come for
free.

Methods take numpy or JAX arrays and answer in kind; those that speak of noise levels are given the
schedule."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import scipy.special
from jaxtyping import Array, Float

from vilg.config import require
from vilg.processes.base import SAME_TIME, TIMESTEPS
from vilg.processes.schedules import Schedule, numeric

PATH = "generator.process.times"


@dataclass(frozen=True)
class Uniform:
    """t uniform in (0, 1]."""

    def fits(self, schedule: Schedule) -> None:
        """UserError where the draw has nothing to draw from."""

    def cdf(self, t: Any, schedule: Schedule) -> Any:
        """The share of draws at or below t."""
        return t

    def inverse(self, mass: Any, schedule: Schedule) -> Any:
        """The t that this share of draws lies at or below."""
        return mass


@dataclass(frozen=True)
class Timesteps(Uniform):
    """The papers' integer timesteps i = 0 .. 999, at t = (i + 1) / 1000, all equally likely."""

    def cdf(self, t: Any, schedule: Schedule) -> Any:
        return numeric(t).floor(TIMESTEPS * t + 1e-2) / TIMESTEPS

    def inverse(self, mass: Any, schedule: Schedule) -> Any:
        return numeric(mass).ceil(TIMESTEPS * mass - 1e-4) / TIMESTEPS


@dataclass(frozen=True)
class LogNormal(Uniform):
    """log(sigma / alpha) ~ N(mean, std^2), cut to what the schedule reaches (2206.00364): training
    is put where the caption matters.
    """

    mean: float = field(default=0.0, metadata={"signed": True})
    std: float = 1.0

    def __post_init__(self) -> None:
        require(self.std > 0, f"{PATH}.std", self.std, "must be above 0")

    def fits(self, schedule: Schedule) -> None:
        low, high = self._ends(schedule)
        reach = "from {:.2f} to {:.2f}".format(*schedule.ends)
        require(
            high - low > 0.01,
            f"{PATH}.mean",
            self.mean,
            f"leaves under 1 % of the draws to the schedule, which reaches log sigma/alpha {reach}",
        )

    def cdf(self, t: Any, schedule: Schedule) -> Any:
        xp, (low, high) = numeric(t), self._ends(schedule)
        ndtr = jax.scipy.special.ndtr if xp is jnp else scipy.special.ndtr
        return xp.clip(
            (ndtr((schedule.log_ratio(t) - self.mean) / self.std) - low) / (high - low), 0.0, 1.0
        )

    def inverse(self, mass: Any, schedule: Schedule) -> Any:
        xp, (low, high) = numeric(mass), self._ends(schedule)
        ndtri = jax.scipy.special.ndtri if xp is jnp else scipy.special.ndtri
        return schedule.time(self.mean + self.std * ndtri(low + mass * (high - low)))

    def _ends(self, schedule: Schedule) -> tuple[float, float]:
        low, high = (
            float(scipy.special.ndtr((end - self.mean) / self.std)) for end in schedule.ends
        )
        return low, high


DRAWS = {"uniform": Uniform, "table": Timesteps, "lognormal": LogNormal}


def stratified(
    cdf: Callable[[Any], Any],
    inverse: Callable[[Any], Any],
    key: Array,
    b: int,
    low: Any = 0.0,
    high: Any = 1.0,
) -> Float[Array, " b"]:
    """b times in (low, high]: one from each of b equal shares of the mass between them, in random
    order. The ends may be traced.
    """
    jitter, order = jax.random.split(key)
    share = (jax.random.permutation(order, b) + jax.random.uniform(jitter, (b,))) / b
    share = jnp.clip(
        share, 1e-5, 1 - 1e-5
    )  # a share rounded to an end would be a timestep of the neighbour's
    low, high = jnp.float32(low), jnp.float32(high)
    below, above = cdf(low), cdf(high)
    return jnp.clip(inverse(below + share * (above - below)), low + 2 * SAME_TIME, high)
