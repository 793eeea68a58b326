"""Gaussian diffusion of latents: noisy = alpha(t) codes + sigma(t) eps. The denoiser predicts eps,
x0 or v = alpha eps - sigma x0.

Weightings are factors of the squared error of x0, so that a weighting is one number whatever is
predicted. With s = SNR = alpha^2 / sigma^2 the squared error of eps is s times that of x0, and that
of v is (s + 1) times. The loss is the squared error of the prediction itself, so it gets the factor

    weighting      factor of x0's error    x0           eps            v
    unit           (the prediction's own)  1            1              1
    x0             1                       1            1 / s          1 / (s + 1)
    snr            s                       s            1              s / (s + 1)
    truncated_snr  max(s, 1)               max(s, 1)    max(1, 1 / s)  max(s, 1) / (s + 1)
    min_snr        min(s, gamma)           min(s, g)    min(1, g / s)  min(s, g) / (s + 1)

"snr" is the papers' loss on eps; truncated_snr is that of 2202.00512, min_snr that of 2303.09556.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from vilg.config import Section, build_part, require, section
from vilg.processes.base import Carry, DenoisingControls, Number, SamplingPlan
from vilg.processes.samplers import sampling_plan
from vilg.processes.schedules import SCHEDULES, Schedule
from vilg.processes.training_times import TIME_DISTRIBUTIONS, Uniform, stratified
from vilg.types import Composite

PATH = "generator.process"


@dataclass(frozen=True)
class Unit:
    """Weight 1 on the loss of the prediction itself."""

    def log_factor(self, log_snr: Array, log_own: Array) -> Array:
        """The logarithm of the factor of x0's squared error, from log SNR and from `log_own`, the
        logarithm of the factor that the unweighted loss of the prediction has.
        """
        return log_own


@dataclass(frozen=True)
class X0(Unit):
    """Weight 1 on the loss of x0."""

    def log_factor(self, log_snr: Array, log_own: Array) -> Array:
        return jnp.zeros_like(log_snr)


@dataclass(frozen=True)
class SNR(Unit):
    """Weight 1 on the loss of eps."""

    def log_factor(self, log_snr: Array, log_own: Array) -> Array:
        return log_snr


@dataclass(frozen=True)
class TruncatedSNR(Unit):
    """max(SNR, 1)."""

    def log_factor(self, log_snr: Array, log_own: Array) -> Array:
        return jnp.maximum(log_snr, 0.0)


@dataclass(frozen=True)
class MinSNR(Unit):
    """min(SNR, gamma)."""

    gamma: float = 5.0  # largest weight, in SNR

    def __post_init__(self) -> None:
        require(
            self.gamma > 0,
            f"{PATH}.weighting.gamma",
            self.gamma,
            "must be above 0; the paper's is 5",
        )

    def log_factor(self, log_snr: Array, log_own: Array) -> Array:
        return jnp.minimum(log_snr, np.log(self.gamma))


WEIGHTINGS: dict[str, type[Unit]] = {
    "unit": Unit,
    "x0": X0,
    "snr": SNR,
    "truncated_snr": TruncatedSNR,
    "min_snr": MinSNR,
}
Prediction = Literal["eps", "x0", "v"]


def to_clean(
    kind: Prediction, output: Number, noisy: Number, alpha: Number, sigma: Number
) -> Number:
    """The x0 that a prediction of this kind stands for."""
    if kind == "eps":
        return (noisy - sigma * output) / alpha
    return output if kind == "x0" else alpha * noisy - sigma * output


def from_clean(
    kind: Prediction, clean: Number, noisy: Number, alpha: Number, sigma: Number
) -> Number:
    """The prediction of this kind that stands for x0; sigma must not be 0 for eps and v."""
    if kind == "x0":
        return clean
    eps = (noisy - alpha * clean) / sigma
    return eps if kind == "eps" else alpha * eps - sigma * clean


@dataclass(frozen=True)
class Gaussian(Composite):
    """The fields are the config. schedule, weighting and times (which times training draws) may be
    given as sections, whose "name" is in the table that PARTS has for the field.
    """

    # section of the noise over time: "name" is one of SCHEDULES
    schedule: Section[Schedule] = section(name="ldm_linear")
    prediction: Prediction = "eps"  # what the network puts out: the noise, the clean codes, or v
    # section of the loss's weight over time: "name" is one of WEIGHTINGS
    weighting: Section[Unit] = section(name="unit")
    # section of the times that training draws: "name" is one of TIME_DISTRIBUTIONS
    times: Section[Uniform] = section(name="table")

    PARTS: ClassVar[Mapping[str, Any]] = {
        "schedule": SCHEDULES,
        "weighting": WEIGHTINGS,
        "times": TIME_DISTRIBUTIONS,
    }
    space: ClassVar[str] = "latents"
    # fields in which a run may differ from the run that it starts from
    fields_free_at_start: ClassVar[tuple[str, ...]] = ("weighting", "times")

    def __post_init__(self) -> None:
        for name, table in self.PARTS.items():
            part = build_part(table, getattr(self, name), f"{PATH}.{name}")
            object.__setattr__(self, name, part)
        self.times.check(self.schedule)
        possible = self.prediction != "eps" or self.schedule.alpha(1.0) > 0
        require(
            bool(possible),
            f"{PATH}.prediction",
            self.prediction,
            "says nothing of x0 where the terminal SNR is zero: predict 'v' or 'x0'",
        )

    def output_channels(self, channels: int, vocabulary: int) -> int:
        """As many as the codes have."""
        return channels

    def draw_times(
        self, key: Array, b: int, low: ArrayLike = 0.0, high: ArrayLike = 1.0
    ) -> Float[Array, " b"]:
        """Stratified training times in (low, high] (training_times.py)."""

        def cdf(t: Array) -> Array:
            return self.times.cdf(t, self.schedule)

        def quantile(share: Array) -> Array:
            return self.times.quantile(share, self.schedule)

        return stratified(cdf, quantile, key, b, low, high)

    def quantile(self, share: np.ndarray) -> np.ndarray:
        """The t at or below which this share of the training times lies."""
        return self.times.quantile(np.asarray(share, np.float64), self.schedule)

    def cdf(self, t: np.ndarray) -> np.ndarray:
        """The share of the training times at or below t."""
        return self.times.cdf(np.asarray(t, np.float64), self.schedule)

    def noise_level(self, t: float | np.ndarray) -> np.ndarray:
        """sigma / alpha."""
        return np.asarray(np.exp(self.schedule.log_ratio(np.asarray(t, np.float64))))

    def corrupt(
        self, codes: Float[Array, "b y x c"], t: Float[Array, " b"], key: Array
    ) -> Float[Array, "b y x c"]:
        """alpha(t) codes + sigma(t) eps, float32."""
        return self._mix(codes, t, jax.random.normal(key, codes.shape))

    def loss(
        self,
        output: Float[Array, "b y x c"],
        codes: Float[Array, "b y x c"],
        noisy: Float[Array, "b y x c"],
        t: Float[Array, " b"],
    ) -> Float[Array, "b y x"]:
        """weight(t) times the squared error of the prediction, mean over channels."""
        alpha, sigma = self._levels(t)
        codes, noisy = codes.astype(jnp.float32), noisy.astype(jnp.float32)
        target = from_clean(self.prediction, codes, noisy, alpha, jnp.maximum(sigma, 1e-5))
        weight = self.weight(t)[:, None, None]
        return weight * jnp.mean(jnp.square(output.astype(jnp.float32) - target), -1)

    def error(
        self,
        output: Float[Array, "b y x c"],
        codes: Float[Array, "b y x c"],
        noisy: Float[Array, "b y x c"],
        t: Float[Array, " b"],
    ) -> Float[Array, "b y x"]:
        """The squared error of x0, mean over channels."""
        return jnp.mean(jnp.square(self.clean(output, noisy, t) - codes.astype(jnp.float32)), -1)

    def weight(self, t: Float[Array, " b"]) -> Float[Array, " b"]:
        """The factor of the loss (the table above)."""
        log_snr = jnp.clip(self.schedule.log_snr(t), -60.0, 60.0)
        log_own = {"x0": jnp.zeros_like(log_snr), "eps": log_snr, "v": jax.nn.softplus(log_snr)}[
            self.prediction
        ]
        return jnp.exp(self.weighting.log_factor(log_snr, log_own) - log_own)

    def guide(
        self,
        conditional: Float[Array, "b y x c"],
        unconditional: Float[Array, "b y x c"],
        guidance: ArrayLike,
        rescale: ArrayLike,
    ) -> Float[Array, "b y x c"]:
        """u + w (c - u), then moved by `rescale` (0 to 1) towards the standard deviation of c in
        each row (2305.08891, eq. 14-16).
        """
        guided = unconditional + guidance * (conditional - unconditional)
        deviation, own = (jnp.std(x, axis=(1, 2, 3), keepdims=True) for x in (conditional, guided))
        factor = deviation / jnp.maximum(own, 1e-12)
        guided = guided * (rescale * factor + (1 - rescale))
        return jnp.where(jnp.asarray(guidance) == 1, conditional, guided)

    def clean(
        self, output: Float[Array, "b y x c"], noisy: Float[Array, "b y x c"], t: Float[Array, " b"]
    ) -> Float[Array, "b y x c"]:
        """The x0 that the output stands for, float32."""
        return to_clean(self.prediction, output.astype(jnp.float32), noisy, *self._levels(t))

    def as_prediction(self, codes: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
        """The codes themselves."""
        return codes

    def sampling_plan(self, controls: DenoisingControls) -> SamplingPlan:
        """The sampler's table of numbers (samplers.py)."""
        require(
            controls.temperature == 1,
            "temperature",
            controls.temperature,
            "means nothing to a Gaussian process: leave it 1",
        )
        return sampling_plan(self.schedule, controls)

    def start(
        self,
        keys: Array,
        shape: tuple[int, ...],
        plan: SamplingPlan,
        codes: Float[Array, "b y x c"] | None = None,
    ) -> Carry:
        """{"x", "base", "m1", "m2"}: unit noise, or codes corrupted to plan.times[0]. `shape` is
        (y, x, c).
        """
        x = draw_noise(keys, shape, 0)
        if codes is not None:
            x = self._mix(codes, jnp.full(len(keys), plan.times[0], jnp.float32), x)
        return {"x": x, "base": jnp.zeros_like(x), "m1": jnp.zeros_like(x), "m2": jnp.zeros_like(x)}

    def noisy(self, carry: Carry) -> Float[Array, "b y x c"]:
        """x."""
        return carry["x"]

    def advance(
        self,
        carry: Carry,
        prediction: Float[Array, "b y x c"],
        row: Mapping[str, ArrayLike],
        keys: Array,
        index: ArrayLike,
    ) -> Carry:
        """(x, base) <- matrix @ (x, base, prediction, m1, m2) + noise eps."""
        matrix = jnp.asarray(row["matrix"], jnp.float32)
        parts = (carry["x"], carry["base"], prediction, carry["m1"], carry["m2"])
        x, base = (
            sum((matrix[o, k] * part for k, part in enumerate(parts)), jnp.float32(0))
            for o in range(2)
        )
        if "noise" in row:
            eps = draw_noise(keys, x.shape[1:], jnp.add(index, 1))
            x = x + jnp.asarray(row["noise"], jnp.float32) * eps
        return {"x": x, "base": base, "m1": prediction, "m2": carry["m1"]}

    def estimate(self, carry: Carry) -> tuple[Float[Array, "b y x c"], Bool[Array, "b y x"]]:
        """The last prediction of x0, in which every position is known."""
        return carry["m1"], jnp.ones(carry["m1"].shape[:3], bool)

    def result(self, carry: Carry) -> Float[Array, "b y x c"]:
        """x."""
        return carry["x"]

    def _levels(self, t: Array) -> tuple[Array, Array]:
        alpha, sigma = self.schedule.levels(t)
        return alpha[:, None, None, None], sigma[:, None, None, None]

    def _mix(self, codes: Array, t: Array, eps: Array) -> Array:
        alpha, sigma = self._levels(t)
        return alpha * codes.astype(jnp.float32) + sigma * eps


def draw_noise(keys: Array, shape: tuple[int, ...], index: ArrayLike) -> Float[Array, "b ..."]:
    """Unit noise for each row from its own key: index 0 for the start, j + 1 for evaluation j."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
