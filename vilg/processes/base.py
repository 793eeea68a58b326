"""The protocol of a process: how codes are destroyed with time t in [0, 1] (0 clean, 1 noisiest),
what the denoiser learns, and how sampling walks back from noise to codes.

    training    t = draw_times(key, b, low, high)
                noisy = corrupt(codes, t, key)
                output = denoiser(noisy, 1000 t, text)
                loss(output, codes, noisy, t) -> [b y x]

    sampling    plan = sampling_plan(controls)       (numbers, computed before anything is compiled)
                carry = start(keys, shape, plan)
                for each evaluation j:
                    noisy = noisy(carry)
                    output = guide(denoiser(noisy, 1000 plan.times[j], text), ...)
                    prediction = clean(output, noisy, t)
                    carry = advance(carry, prediction, plan.row(j), keys, j)
                result(carry)

The denoiser, the text and the choice of the expert that owns a slice of time
(vilg/processes/splits.py) belong to the generator; a process has no parameters.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vilg.config import option, require

TIMESTEPS = 1000  # of the papers' tables: the integer timestep i is the time t = (i + 1) / 1000
# Times nearer than this count as equal, so that float32 and float64 find the same expert.
SAME_TIME = 1e-6
Number = TypeVar("Number", float, np.ndarray, Array)
"""A number, or an array of numpy (float64) or JAX; a result is of the argument's kind."""
Carry = dict[str, Array]  # the state of a sampler between evaluations


@dataclass(frozen=True)
class DenoisingControls:
    """The options of sampling, refused with a UserError that names the option.

    guidance: w of classifier-free guidance (1 is none). rescale: phi of 2305.08891. eta: noise of
    DDIM. temperature: of ids. first: the t at which the evaluations begin (the strength of a
    variation). last: no evaluation has a t below it; the clean prediction of the last evaluation is
    the result.
    """

    guidance: float = option(1.0, "classifier-free guidance; 1 is none")
    rescale: float = option(0.0, "guided outputs to their deviation unguided, 0 to 1")
    sampler: str = option("ddim", "ddim, ddpm, euler, heun, dpmpp_2m or unipc")
    steps: int = option(50, "steps of the sampler")
    eta: float = option(0.0, "noise of ddim, 0 to 1")
    spacing: str = option("trailing", "of the steps in time: trailing, leading or linspace")
    first: float = option(1.0, "the time at which sampling begins", command_line=False)
    last: float = option(0.0, "no evaluation at a t below it")
    temperature: float = option(1.0, "temperature of tokens or ids; 0 takes the likeliest")

    def __post_init__(self) -> None:
        require(
            0 <= self.guidance < math.inf,
            "guidance",
            self.guidance,
            "must be 0 or more, and finite; 1 is no guidance",
        )
        require(
            0 <= self.rescale <= 1, "rescale", self.rescale, "must lie in [0, 1]; 0 is no rescaling"
        )
        require(self.steps >= 1, "steps", self.steps, "must be at least 1")
        require(0 <= self.eta <= 1, "eta", self.eta, "must lie in [0, 1]; 0 is deterministic")
        spacings = ("trailing", "leading", "linspace")
        require(
            self.spacing in spacings,
            "spacing",
            self.spacing,
            f"must be one of {', '.join(map(repr, spacings))}",
        )
        require(
            0 < self.first <= 1,
            "first",
            self.first,
            "must lie in (0, 1]; 1 starts from nothing but noise",
        )
        require(
            0 <= self.last < self.first,
            "last",
            self.last,
            f"must be 0 or more, and below first={self.first}",
        )
        require(
            0 <= self.temperature < math.inf,
            "temperature",
            self.temperature,
            "must be 0 (the likeliest id) or more, and finite",
        )


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """A sampler as numbers, float64: `times` [k] are the times of the denoiser's evaluations,
    non-increasing; `rows` holds arrays [k, ...], of which evaluation j uses entry j.
    """

    times: np.ndarray
    rows: Mapping[str, np.ndarray]

    def row(self, index: int) -> dict[str, np.ndarray]:
        """The row that `advance` takes at evaluation `index`."""
        return {name: np.asarray(values[index]) for name, values in self.rows.items()}


@runtime_checkable
class Process(Protocol):
    """A frozen dataclass. "Codes" are float [b y x c] of unit variance (space "latents") or int32
    [b y x] (space "ids").
    """

    space: ClassVar[str]  # the codes that it destroys: a codec's "latents" or "ids"

    def output_channels(self, channels: int, vocabulary: int) -> int:
        """Channels that the denoiser must put out, for codes of so many channels or ids."""
        ...

    def draw_times(
        self, key: Array, b: int, low: ArrayLike = 0.0, high: ArrayLike = 1.0
    ) -> Float[Array, " b"]:
        """Training times in the slice (low, high], one from each of b equal shares of its
        probability, in random order.
        """
        ...

    def quantile(self, share: np.ndarray) -> np.ndarray:
        """The t at or below which this share of the training times lies (float64)."""
        ...

    def cdf(self, t: np.ndarray) -> np.ndarray:
        """The share of the training times at or below t (float64): the inverse of `quantile`."""
        ...

    def noise_level(self, t: float | np.ndarray) -> np.ndarray:
        """How noisy codes are at t, as a number for people: sigma / alpha, or the share of masked
        positions.
        """
        ...

    def corrupt(self, codes: Array, t: Float[Array, " b"], key: Array) -> Array:
        """Codes as they are at time t; t = 0 is the identity."""
        ...

    def loss(
        self, output: Float[Array, "b y x o"], codes: Array, noisy: Array, t: Float[Array, " b"]
    ) -> Float[Array, "b y x"]:
        """The weighted loss at each position, float32."""
        ...

    def error(
        self, output: Float[Array, "b y x o"], codes: Array, noisy: Array, t: Float[Array, " b"]
    ) -> Float[Array, "b y x"]:
        """The error of the output about the clean codes, whatever the loss weighs: squared error of
        codes, or nats; float32.
        """
        ...

    def guide(
        self,
        conditional: Array,
        unconditional: Array,
        guidance: ArrayLike,
        rescale: ArrayLike,
    ) -> Array:
        """Raw outputs combined; guidance 1 gives `conditional` bit for bit."""
        ...

    def clean(self, output: Float[Array, "b y x o"], noisy: Array, t: Float[Array, " b"]) -> Array:
        """The prediction of the clean codes that the output stands for: the codes, or
        log-probabilities of ids.
        """
        ...

    def as_prediction(self, codes: Array) -> Array:
        """Known codes in the form of `clean`'s result, which they replace at known positions
        (inpainting).
        """
        ...

    def sampling_plan(self, controls: DenoisingControls) -> SamplingPlan:
        """The sampler's numbers. Errors: UserError where the controls do not fit this process."""
        ...

    def start(
        self,
        keys: Array,
        shape: tuple[int, ...],
        plan: SamplingPlan,
        codes: Array | None = None,
    ) -> Carry:
        """The state before the first evaluation: noise, or `codes` corrupted to plan.times[0].
        `keys` has one key for each row of the batch; `shape` is one row's.
        """
        ...

    def noisy(self, carry: Carry) -> Array:
        """The noisy codes that the denoiser gets."""
        ...

    def advance(
        self,
        carry: Carry,
        prediction: Array,
        row: Mapping[str, ArrayLike],
        keys: Array,
        index: ArrayLike,
    ) -> Carry:
        """The state after evaluation `index`, from its clean prediction and its row of the plan."""
        ...

    def estimate(self, carry: Carry) -> tuple[Array, Array]:
        """The codes as they are estimated after an evaluation, and which positions [b y x] are
        known yet."""
        ...

    def result(self, carry: Carry) -> Array:
        """The codes, after the last evaluation."""
        ...
