"""Noise schedules: how much signal (alpha) and noise (sigma) there is at time t, variance
preserving: alpha^2 + sigma^2 = 1.

Every method takes numbers and numpy arrays (float64: the samplers' plans are computed of them) or
JAX arrays (training) and answers in kind. A schedule of T = 1000 betas holds at t = (i + 1) / 1000;
between these times the angle atan(sigma / alpha) is interpolated. t = 0 is clean exactly. `shift`
multiplies sigma / alpha, which adds 2 log(1 / shift) to log SNR (simple diffusion, 2301.11093).
"""

import abc
import functools
import math
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vilg.config import require
from vilg.processes.base import TIMESTEPS, Number

PATH = "generator.process.schedule"


def array_module(value: float | np.ndarray | jax.Array) -> ModuleType:
    """The module that computes with the value: jax.numpy or numpy."""
    return jnp if isinstance(value, jax.Array) else np


@dataclass(frozen=True)
class Schedule(abc.ABC):
    """The methods of every schedule, of which `levels`, its inverse `time` and `ends` differ."""

    shift: float = 1.0  # multiplies sigma / alpha: above 1 is more noise (2301.11093)

    # whether the samplers keep to integer timesteps, which are those of the schedule's betas
    integer_timesteps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(
            self.shift > 0,
            f"{PATH}.shift",
            self.shift,
            "must be above 0; 1 is no shift, more is more noise",
        )

    @abc.abstractmethod
    def levels(self, t: Number) -> tuple[Number, Number]:
        """(alpha, sigma) at times t."""

    @abc.abstractmethod
    def time(self, log_ratio: Number) -> Number:
        """The t at which log(sigma / alpha) has this value, clipped to [0, 1]."""

    @property
    @abc.abstractmethod
    def ends(self) -> tuple[float, float]:
        """log(sigma / alpha) just above t = 0, and at t = 1."""

    def alpha(self, t: Number) -> Number:
        """The factor of the clean codes."""
        return self.levels(t)[0]

    def sigma(self, t: Number) -> Number:
        """The factor of the noise."""
        return self.levels(t)[1]

    def log_ratio(self, t: Number) -> Number:
        """log(sigma / alpha); -inf at t = 0."""
        alpha, sigma = self.levels(t)
        xp = array_module(alpha)
        with np.errstate(divide="ignore"):
            return xp.log(sigma) - xp.log(alpha)

    def log_snr(self, t: Number) -> Number:
        """log(alpha^2 / sigma^2); inf at t = 0, -inf at a zero terminal SNR."""
        return -2 * self.log_ratio(t)


@dataclass(frozen=True)
class BetaSchedule(Schedule):
    """A schedule of 1000 betas. zero_terminal_snr rescales them so that t = 1 holds noise only
    (2305.08891, algorithm 1).
    """

    zero_terminal_snr: bool = False  # rescales the table so that t = 1 holds noise only

    integer_timesteps: ClassVar[bool] = True

    @abc.abstractmethod
    def betas(self) -> np.ndarray:
        """[1000], float64."""

    @functools.cached_property
    def angles(self) -> np.ndarray:
        """atan(sigma / alpha) at t = 0, 1/1000, ..., 1."""
        alpha = np.sqrt(np.cumprod(1 - self.betas()))
        if self.zero_terminal_snr:
            alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        return np.concatenate([[0.0], np.arctan2(self.shift * np.sqrt(1 - alpha**2), alpha)])

    def levels(self, t: Number) -> tuple[Number, Number]:
        xp = array_module(t)
        angle = xp.interp(t, np.linspace(0, 1, TIMESTEPS + 1), self.angles)
        alpha, sigma = xp.cos(angle), xp.sin(angle)
        if self.zero_terminal_snr:
            alpha = xp.where(xp.asarray(t) >= 1, 0 * alpha, alpha)
        return alpha, sigma

    def time(self, log_ratio: Number) -> Number:
        xp = array_module(log_ratio)
        angle = xp.arctan(xp.exp(log_ratio))
        return xp.interp(angle, self.angles, np.linspace(0, 1, TIMESTEPS + 1))

    @property
    def ends(self) -> tuple[float, float]:
        if self.zero_terminal_snr:
            return -math.inf, math.inf
        return -math.inf, float(np.log(np.tan(self.angles[-1])))


@dataclass(frozen=True)
class DDPMLinear(BetaSchedule):
    """Betas from 1e-4 to 2e-2 (2006.11239)."""

    first_beta: float = 1e-4  # beta of the first timestep
    last_beta: float = 2e-2  # beta of the last timestep

    def betas(self) -> np.ndarray:
        return np.linspace(self.first_beta, self.last_beta, TIMESTEPS)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.first_beta < 1, f"{PATH}.first_beta", self.first_beta, "must lie in (0, 1)"
        )
        grows = self.first_beta <= self.last_beta < 1
        require(
            grows,
            f"{PATH}.last_beta",
            self.last_beta,
            f"must lie in [first_beta={self.first_beta}, 1)",
        )


@dataclass(frozen=True)
class LDMLinear(DDPMLinear):
    """Latent diffusion's schedule named "linear", which is linear in sqrt(beta) (PAPERS 1.5)."""

    first_beta: float = 0.00085  # beta of the first timestep
    last_beta: float = 0.012  # beta of the last timestep

    def betas(self) -> np.ndarray:
        return np.linspace(math.sqrt(self.first_beta), math.sqrt(self.last_beta), TIMESTEPS) ** 2


@dataclass(frozen=True)
class Cosine(BetaSchedule):
    """alpha^2 = cos^2((t + .008) / 1.008 * pi / 2), betas at most .999 (2102.09672; diffusers'
    squaredcos_cap_v2).
    """

    def betas(self) -> np.ndarray:
        squared = np.cos((np.linspace(0, 1, TIMESTEPS + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - squared[1:] / squared[:-1], 0.999)


@dataclass(frozen=True)
class LogLinear(Schedule):
    """log(sigma / alpha) is linear in t, from log(sigma_min) just above t = 0 to log(sigma_max) at
    t = 1, so that an experiment can choose the noise that its data needs.
    """

    sigma_min: float = 0.002  # sigma / alpha just above t = 0
    sigma_max: float = 80.0  # sigma / alpha at t = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.sigma_min > 0, f"{PATH}.sigma_min", self.sigma_min, "must be above 0")
        require(
            self.sigma_max > self.sigma_min,
            f"{PATH}.sigma_max",
            self.sigma_max,
            f"must be above sigma_min={self.sigma_min}",
        )

    @property
    def ends(self) -> tuple[float, float]:
        return math.log(self.sigma_min * self.shift), math.log(self.sigma_max * self.shift)

    def levels(self, t: Number) -> tuple[Number, Number]:
        xp = array_module(t)
        low, high = self.ends
        ratio = xp.where(xp.asarray(t) > 0, xp.exp(low + t * (high - low)), 0.0)
        alpha = 1 / xp.sqrt(1 + ratio**2)
        return alpha, ratio * alpha

    def time(self, log_ratio: Number) -> Number:
        low, high = self.ends
        return array_module(log_ratio).clip((log_ratio - low) / (high - low), 0.0, 1.0)


SCHEDULES: dict[str, type[Schedule]] = {
    "ddpm_linear": DDPMLinear,
    "ldm_linear": LDMLinear,
    "cosine": Cosine,
    "log_linear": LogLinear,
}
