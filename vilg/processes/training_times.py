"""The distribution of training times, as (cdf, quantile): drawing in a slice of time and stratified
drawing follow from these two.

Methods take numbers, numpy or JAX arrays and answer in kind. They are given the schedule, since a
distribution may be one of noise levels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vilg.config import require
from vilg.processes.base import SAME_TIME, TIMESTEPS, Number
from vilg.processes.schedules import Schedule, array_module

PATH = "generator.process.times"


@dataclass(frozen=True)
class Uniform:
    """t uniform in (0, 1]."""

    def check(self, schedule: Schedule) -> None:
        """Raises a UserError where the distribution has hardly any times on this schedule."""

    def cdf(self, t: Number, schedule: Schedule) -> Number:
        """The share of times at or below t."""
        return t

    def quantile(self, share: Number, schedule: Schedule) -> Number:
        """The t at or below which this share of the times lies."""
        return share


@dataclass(frozen=True)
class Timesteps(Uniform):
    """The papers' integer timesteps i = 0 .. 999, at t = (i + 1) / 1000, all equally likely."""

    def cdf(self, t: Number, schedule: Schedule) -> Number:
        return array_module(t).floor(TIMESTEPS * t + 1e-2) / TIMESTEPS

    def quantile(self, share: Number, schedule: Schedule) -> Number:
        return array_module(share).ceil(TIMESTEPS * share - 1e-4) / TIMESTEPS


@dataclass(frozen=True)
class LogNormal(Uniform):
    """log(sigma / alpha) ~ N(mean, std^2), cut to the range of the schedule (2206.00364): training
    sees most of the noise levels at which the caption matters.
    """

    mean: float = field(default=0.0, metadata={"signed": True})  # of log(sigma / alpha)
    std: float = 1.0  # standard deviation of log(sigma / alpha)

    def __post_init__(self) -> None:
        require(self.std > 0, f"{PATH}.std", self.std, "must be above 0")

    def check(self, schedule: Schedule) -> None:
        low, high = self._ends(schedule)
        reach = "from {:.2f} to {:.2f}".format(*schedule.ends)
        require(
            high - low > 0.01,
            f"{PATH}.mean",
            self.mean,
            f"leaves under 1 % of the draws to the schedule, which reaches log sigma/alpha {reach}",
        )

    def cdf(self, t: Number, schedule: Schedule) -> Number:
        import scipy.special  # here, because other distributions of times need no scipy

        xp, (low, high) = array_module(t), self._ends(schedule)
        ndtr = jax.scipy.special.ndtr if xp is jnp else scipy.special.ndtr
        share = ndtr((schedule.log_ratio(t) - self.mean) / self.std)
        return xp.clip((share - low) / (high - low), 0.0, 1.0)

    def quantile(self, share: Number, schedule: Schedule) -> Number:
        import scipy.special

        xp, (low, high) = array_module(share), self._ends(schedule)
        ndtri = jax.scipy.special.ndtri if xp is jnp else scipy.special.ndtri
        log_ratio: Any = self.mean + self.std * ndtri(low + share * (high - low))
        return schedule.time(log_ratio)

    def _ends(self, schedule: Schedule) -> tuple[float, float]:
        """The shares of the whole normal distribution below both ends of the schedule."""
        import scipy.special

        low, high = (
            float(scipy.special.ndtr((end - self.mean) / self.std)) for end in schedule.ends
        )
        return low, high


TIME_DISTRIBUTIONS: dict[str, type[Uniform]] = {
    "uniform": Uniform,
    "table": Timesteps,
    "lognormal": LogNormal,
}


def stratified(
    cdf: Callable[[Array], Array],
    quantile: Callable[[Array], Array],
    key: Array,
    b: int,
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
) -> Float[Array, " b"]:
    """b times in (low, high]: one from each of b equal shares of the probability between them, in
    random order. The ends may be traced.
    """
    jitter, order = jax.random.split(key)
    share = (jax.random.permutation(order, b) + jax.random.uniform(jitter, (b,))) / b
    # a share that rounds to an end would be a timestep of the neighbouring slice
    share = jnp.clip(share, 1e-5, 1 - 1e-5)
    start, end = jnp.float32(low), jnp.float32(high)
    below, above = cdf(start), cdf(end)
    return jnp.clip(quantile(below + share * (above - below)), start + 2 * SAME_TIME, end)
