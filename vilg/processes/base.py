"""The protocol of a process: how codes are destroyed with time t in [0, 1] (0 clean, 1 noisiest),
what the denoiser learns, and how sampling walks back from noise to codes.

    training    t = draw(key, b, low, high)
                noisy = corrupt(codes, t, key)
                output = denoiser(noisy, 1000 t, text)
                loss(output, codes, noisy, t) -> [b y x]

    sampling    plan = plan(controls)            (numbers, computed before anything is compiled)
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
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float

from vilg.config import option, require

TIMESTEPS = 1000  # of the papers' tables: integer timestep i lives at t = (i + 1) / 1000
SAME_TIME = 1e-6  # times nearer than this are one: float32 and float64 must find the same expert


@dataclass(frozen=True)
class DenoisingControls:
    """How to sample. guidance w (1 is none); rescale phi of 2305.08891; eta: noise of DDIM;
    temperature: of ids.

    first: t that the evaluations begin at (strength of a variation); last: no evaluation lies below
    it. After the last evaluation the clean prediction is the result."""

    guidance: float = option(1.0, "classifier-free guidance; 1 is none")
    rescale: float = option(0.0, "guided outputs to their deviation unguided, 0 to 1")
    sampler: str = option("ddim", "ddim, ddpm, euler, heun, dpmpp_2m or unipc")
    steps: int = option(50, "steps of the sampler")
    eta: float = option(0.0, "noise of ddim, 0 to 1")
    spacing: str = option("trailing", "of the steps in time: trailing, leading or linspace")
    first: float = option(1.0, "the time at which sampling begins", command_line=False)
    last: float = option(0.0, "no evaluation at a t below it")
    temperature: float = option(1.0, "of tokens or ids; 0 takes the likeliest")

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
class Plan:
    """A sampler as numbers, float64: `times` [k] that evaluation j asks the denoiser at,
    non-increasing; `rows` of arrays [k, ...].
    """

    times: np.ndarray
    rows: Mapping[str, np.ndarray]

    def row(self, index: int) -> dict[str, np.ndarray]:
        """What `advance` is given at evaluation `index`."""
        return {name: np.asarray(values[index]) for name, values in self.rows.items()}


@runtime_checkable
class Process(Protocol):
    """A frozen dataclass; "codes" are float [b y x c] of unit variance (space "latents") or int32
    [b y x] (space "ids").
    """

    space: str

    def outputs(self, channels: int, vocabulary: int) -> int:
        """Channels that the denoiser must put out."""
        ...

    def draw(self, key: Array, b: int, low: Any = 0.0, high: Any = 1.0) -> Float[Array, " b"]:
        """Training times in the slice (low, high], one from each of b equal shares of its mass, in
        random order.
        """
        ...

    def quantile(self, mass: Any) -> np.ndarray:
        """The t below which training spends this share of its draws (float64)."""
        ...

    def mass(self, t: Any) -> np.ndarray:
        """The share of training draws at or below t (float64)."""
        ...

    def noise(self, t: Any) -> np.ndarray:
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
        """Weighted loss at each position, float32."""
        ...

    def error(
        self, output: Float[Array, "b y x o"], codes: Array, noisy: Array, t: Float[Array, " b"]
    ) -> Float[Array, "b y x"]:
        """How wrong the output is about the clean codes, whatever the loss weighs: mean squared
        error of codes, or nats; float32.
        """
        ...

    def guide(self, conditional: Array, unconditional: Array, guidance: Any, rescale: Any) -> Array:
        """Raw outputs combined; guidance 1 gives `conditional` bit for bit."""
        ...

    def clean(self, output: Float[Array, "b y x o"], noisy: Array, t: Float[Array, " b"]) -> Array:
        """What the output says about clean codes: the codes, or log-probabilities of ids."""
        ...

    def certain(self, codes: Array) -> Array:
        """The prediction of one who knows the codes: put in place of `clean` at known positions
        (inpainting).
        """
        ...

    def plan(self, controls: DenoisingControls) -> Plan:
        """UserError where the controls do not fit this process."""
        ...

    def start(
        self, keys: Array, shape: tuple[int, ...], plan: Plan, codes: Array | None = None
    ) -> Any:
        """The carry before the first evaluation: noise, or `codes` corrupted to plan.times[0]. One
        key a row; `shape` is one row's.
        """
        ...

    def noisy(self, carry: Any) -> Array:
        """What the denoiser is shown."""
        ...

    def advance(
        self, carry: Any, prediction: Array, row: Mapping[str, Any], keys: Array, index: Any
    ) -> Any:
        """The carry after evaluation `index`, whose clean prediction is given; `row` is the plan's
        row of it.
        """
        ...

    def result(self, carry: Any) -> Array:
        """Codes, after the last evaluation."""
        ...
