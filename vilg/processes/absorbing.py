"""Absorbing diffusion of ids: a position is masked with probability m(t) and stays so (D3PM,
2107.03006; in continuous time MDLM, 2406.07524).

The denoiser reads ids, of which `vocabulary` stands for the mask, and puts out a logit for each
true id. The loss is the cross-entropy at masked positions times m'(t) / m(t): for t drawn uniformly
it bounds -log p(codes) from above in nats, and the bound does not depend on m. Sampling from t to s
unmasks each masked position with probability 1 - m(s) / m(t), by an id of the prediction.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from vilg.config import Section, build_part, require, section
from vilg.processes.base import Carry, DenoisingControls, Number, SamplingPlan
from vilg.processes.samplers import spaced_times
from vilg.processes.schedules import array_module
from vilg.processes.training_times import stratified
from vilg.types import Composite


@dataclass(frozen=True)
class Linear:
    """m(t) = t: training sees every number of masked positions equally often."""

    def masked(self, t: Number) -> Number:
        """The probability that a position is masked."""
        return t

    def rate(self, t: Number) -> Number:
        """m'(t) / m(t)."""
        return 1 / t


@dataclass(frozen=True)
class Sine(Linear):
    """m(t) = sin(pi t / 2): training masks more positions, and sampling reveals few positions at
    first (MaskGIT's cosine, 2202.04200).
    """

    def masked(self, t: Number) -> Number:
        return array_module(t).sin(math.pi / 2 * t)

    def rate(self, t: Number) -> Number:
        return math.pi / 2 / array_module(t).tan(math.pi / 2 * t)


MASKINGS: dict[str, type[Linear]] = {"linear": Linear, "sine": Sine}


@dataclass(frozen=True)
class Absorbing(Composite):
    """The fields are the config; masking is a section whose "name" is in MASKINGS. `largest_weight`
    limits the weight m'(t) / m(t), with which the loss is no bound any more (0: no limit).
    """

    vocabulary: int  # given by the codec
    # section of the share of masked ids over time: "name" is one of MASKINGS
    masking: Section[Linear] = section(name="linear")
    # cuts the loss's weight m'(t) / m(t), then no bound any more; 0: never
    largest_weight: float = 0.0

    PARTS: ClassVar[Mapping[str, Any]] = {"masking": MASKINGS}
    space: ClassVar[str] = "ids"

    def __post_init__(self) -> None:
        require(self.vocabulary > 1, "codec.vocabulary", self.vocabulary, "must be at least 2")
        masking = build_part(MASKINGS, self.masking, "generator.process.masking")
        object.__setattr__(self, "masking", masking)

    def output_channels(self, channels: int, vocabulary: int) -> int:
        """A logit for each id; none for the mask."""
        return vocabulary

    def draw_times(
        self, key: Array, b: int, low: ArrayLike = 0.0, high: ArrayLike = 1.0
    ) -> Float[Array, " b"]:
        """Uniform times in (low, high], stratified."""
        return stratified(lambda t: t, lambda share: share, key, b, low, high)

    def quantile(self, share: np.ndarray) -> np.ndarray:
        """The share itself: training draws t uniformly."""
        return np.asarray(share, np.float64)

    def cdf(self, t: np.ndarray) -> np.ndarray:
        """The time itself."""
        return np.asarray(t, np.float64)

    def noise_level(self, t: float | np.ndarray) -> np.ndarray:
        """The share of masked positions."""
        return np.asarray(self.masking.masked(np.asarray(t, np.float64)))

    def corrupt(
        self, codes: Int[Array, "b y x"], t: Float[Array, " b"], key: Array
    ) -> Int[Array, "b y x"]:
        """The codes, some of them masked."""
        return self._mask(codes, t, jax.random.uniform(key, codes.shape))

    def loss(
        self,
        output: Float[Array, "b y x v"],
        codes: Int[Array, "b y x"],
        noisy: Int[Array, "b y x"],
        t: Float[Array, " b"],
    ) -> Float[Array, "b y x"]:
        """Weighted nats at masked positions, 0 at the others; its sum over positions bounds -log
        p(codes).
        """
        weight = self.masking.rate(t)
        if self.largest_weight > 0:
            weight = jnp.minimum(weight, self.largest_weight)
        return weight[:, None, None] * self.error(output, codes, noisy, t)

    def error(
        self,
        output: Float[Array, "b y x v"],
        codes: Int[Array, "b y x"],
        noisy: Int[Array, "b y x"],
        t: Float[Array, " b"],
    ) -> Float[Array, "b y x"]:
        """Nats at masked positions, 0 at the others."""
        log_p = jax.nn.log_softmax(output.astype(jnp.float32))
        nats = -jnp.take_along_axis(log_p, codes[..., None], -1)[..., 0]
        return jnp.where(noisy == self.vocabulary, nats, 0.0)

    def guide(
        self,
        conditional: Float[Array, "b y x v"],
        unconditional: Float[Array, "b y x v"],
        guidance: ArrayLike,
        rescale: ArrayLike = 0.0,
    ) -> Float[Array, "b y x v"]:
        """Log-probabilities u + w (c - u), not normalised; `sampling_plan` refuses a rescale."""
        c, u = jax.nn.log_softmax(conditional), jax.nn.log_softmax(unconditional)
        return jnp.where(jnp.asarray(guidance) == 1, conditional, u + guidance * (c - u))

    def clean(
        self, output: Float[Array, "b y x v"], noisy: Int[Array, "b y x"], t: Float[Array, " b"]
    ) -> Float[Array, "b y x v"]:
        """Log-probabilities of ids, float32."""
        return jax.nn.log_softmax(output.astype(jnp.float32))

    def as_prediction(self, codes: Int[Array, "b y x"]) -> Float[Array, "b y x v"]:
        """0 for the codes, -inf for all other ids."""
        return jnp.log(jax.nn.one_hot(codes, self.vocabulary))

    def sampling_plan(self, controls: DenoisingControls) -> SamplingPlan:
        """Rows "kept" [k], the probability that a masked position stays masked, and "temperature"
        [k]. The only sampler is the ancestral one.
        """
        default = DenoisingControls()
        for name in ("sampler", "eta", "rescale"):
            value = getattr(controls, name)
            require(
                value == getattr(default, name),
                name,
                value,
                f"means nothing to an absorbing process: leave it {getattr(default, name)!r}",
            )
        times = spaced_times(controls, integer_timesteps=False)
        masked = np.append(self.masking.masked(times), 0.0)
        return SamplingPlan(
            times,
            {
                "kept": masked[1:] / masked[:-1],
                "temperature": np.full(len(times), float(controls.temperature)),
            },
        )

    def start(
        self,
        keys: Array,
        shape: tuple[int, ...],
        plan: SamplingPlan,
        codes: Int[Array, "b y x"] | None = None,
    ) -> Carry:
        """{"ids"}: all masked, or codes masked as at plan.times[0]. `shape` is (y, x)."""
        if codes is None:
            return {"ids": jnp.full((len(keys), *shape), self.vocabulary, jnp.int32)}
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
        chance = jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)
        return {"ids": self._mask(codes, jnp.full(len(keys), plan.times[0], jnp.float32), chance)}

    def noisy(self, carry: Carry) -> Int[Array, "b y x"]:
        """Ids, some of them masked."""
        return carry["ids"]

    def advance(
        self,
        carry: Carry,
        prediction: Float[Array, "b y x v"],
        row: Mapping[str, ArrayLike],
        keys: Array,
        index: ArrayLike,
    ) -> Carry:
        """Some masked positions get an id; the others stay as they are."""

        def choose(key: Array, log_p: Array) -> tuple[Array, Array]:
            reveal, pick = jax.random.split(jax.random.fold_in(key, jnp.add(index, 1)))
            # argmax(log p + T g), with Gumbel noise g, draws from p^(1/T)
            gumbel = row["temperature"] * jax.random.gumbel(pick, log_p.shape)
            revealed = jax.random.uniform(reveal, log_p.shape[:-1]) >= row["kept"]
            return revealed, jnp.argmax(log_p + gumbel, -1)

        revealed, chosen = jax.vmap(choose)(keys, prediction)
        hidden = carry["ids"] == self.vocabulary
        return {"ids": jnp.where(hidden & revealed, chosen, carry["ids"]).astype(jnp.int32)}

    def estimate(self, carry: Carry) -> tuple[Int[Array, "b y x"], Bool[Array, "b y x"]]:
        """The ids (0 where an id is masked), and which ids are not masked."""
        known = carry["ids"] < self.vocabulary
        return jnp.where(known, carry["ids"], 0), known

    def result(self, carry: Carry) -> Int[Array, "b y x"]:
        """Ids; none is masked after the last evaluation."""
        return carry["ids"]

    def _mask(self, codes: Array, t: Array, chance: Array) -> Array:
        hidden = chance < self.masking.masked(t)[:, None, None]
        return jnp.where(hidden, self.vocabulary, codes).astype(jnp.int32)
