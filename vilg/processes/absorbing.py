"""Absorbing diffusion of ids: a position is masked with probability m(t) and stays so (D3PM
2107.03006; in continuous time MDLM 2406.07524).

The denoiser reads ids in which `vocabulary` is the mask, and puts out a logit for each true id. The
loss, cross-entropy at masked positions times m'(t) / m(t), bounds -log p(codes) from above in nats
when t is drawn uniformly; the bound does not depend on m. The way back: from t to s each masked
position is unmasked with probability 1 - m(s) / m(t), by an id of the prediction."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vilg.config import build_part, require
from vilg.processes.base import DenoisingControls, Plan
from vilg.processes.draws import stratified
from vilg.processes.samplers import spaced
from vilg.processes.schedules import numeric


@dataclass(frozen=True)
class Linear:
    """m(t) = t: all numbers of masked positions are trained equally often."""

    def masked(self, t: Any) -> Any:
        """The probability that a position is masked; numpy or JAX."""
        return t

    def rate(self, t: Any) -> Any:
        """m'(t) / m(t)."""
        return 1 / t


@dataclass(frozen=True)
class Sine(Linear):
    """m(t) = sin(pi t / 2): more is masked in training, and sampling begins by revealing few
    (MaskGIT's cosine, 2202.04200).
    """

    def masked(self, t: Any) -> Any:
        return numeric(t).sin(math.pi / 2 * t)

    def rate(self, t: Any) -> Any:
        return math.pi / 2 / numeric(t).tan(math.pi / 2 * t)


MASKINGS = {"linear": Linear, "sine": Sine}


@dataclass(frozen=True)
class Absorbing:
    """`vocabulary` is given by the codec. largest_weight cuts the weight m'(t) / m(t), which is no
    bound any more (0: never cut).
    """

    vocabulary: int  # given by the codec
    masking: Any = field(default_factory=lambda: {"name": "linear"})
    largest_weight: float = 0.0

    space = "ids"

    def __post_init__(self) -> None:
        require(self.vocabulary > 1, "codec.vocabulary", self.vocabulary, "must be at least 2")
        object.__setattr__(
            self, "masking", build_part(MASKINGS, self.masking, "generator.process.masking")
        )

    def outputs(self, channels: int, vocabulary: int) -> int:
        """A logit an id; none for the mask."""
        return vocabulary

    def draw(self, key: Array, b: int, low: Any = 0.0, high: Any = 1.0) -> Float[Array, " b"]:
        """Uniform times in (low, high], stratified."""
        return stratified(lambda t: t, lambda mass: mass, key, b, low, high)

    def quantile(self, mass: Any) -> np.ndarray:
        """The share itself: training draws t uniformly."""
        return np.asarray(mass, np.float64)

    def mass(self, t: Any) -> np.ndarray:
        """The time itself."""
        return np.asarray(t, np.float64)

    def noise(self, t: Any) -> np.ndarray:
        """The share of masked positions, for people."""
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
        guidance: Any,
        rescale: Any = 0.0,
    ) -> Float[Array, "b y x v"]:
        """Log-probabilities u + w (c - u), not normalised; a rescale is refused by `plan`."""
        c, u = jax.nn.log_softmax(conditional), jax.nn.log_softmax(unconditional)
        return jnp.where(jnp.asarray(guidance) == 1, conditional, u + guidance * (c - u))

    def clean(
        self, output: Float[Array, "b y x v"], noisy: Int[Array, "b y x"], t: Float[Array, " b"]
    ) -> Float[Array, "b y x v"]:
        """Log-probabilities of ids, float32."""
        return jax.nn.log_softmax(output.astype(jnp.float32))

    def certain(self, codes: Int[Array, "b y x"]) -> Float[Array, "b y x v"]:
        """0 for the codes, -inf for all other ids."""
        return jnp.log(jax.nn.one_hot(codes, self.vocabulary))

    def plan(self, controls: DenoisingControls) -> Plan:
        """Rows "kept" [k], the probability that what is masked stays so, and "temperature" [k]. The
        one sampler is ancestral.
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
        times = spaced(controls, whole=False)
        masked = np.append(self.masking.masked(times), 0.0)
        return Plan(
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
        plan: Plan,
        codes: Int[Array, "b y x"] | None = None,
    ) -> dict[str, Array]:
        """{"ids"}: all masked, or codes masked as at plan.times[0]. `shape` is (y, x)."""
        if codes is None:
            return {"ids": jnp.full((len(keys), *shape), self.vocabulary, jnp.int32)}
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
        chance = jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)
        return {"ids": self._mask(codes, jnp.full(len(keys), plan.times[0], jnp.float32), chance)}

    def noisy(self, carry: dict[str, Array]) -> Int[Array, "b y x"]:
        """Ids, masked ones among them."""
        return carry["ids"]

    def advance(
        self,
        carry: dict[str, Array],
        prediction: Float[Array, "b y x v"],
        row: Mapping[str, Any],
        keys: Array,
        index: Any,
    ) -> dict[str, Array]:
        """Some masked positions get an id; the others stay as they are."""

        def choose(key: Array, log_p: Array) -> tuple[Array, Array]:
            reveal, pick = jax.random.split(jax.random.fold_in(key, index + 1))
            gumbel = row["temperature"] * jax.random.gumbel(
                pick, log_p.shape
            )  # argmax(log p + T g) draws from p^(1/T)
            return jax.random.uniform(reveal, log_p.shape[:-1]) >= row["kept"], jnp.argmax(
                log_p + gumbel, -1
            )

        revealed, chosen = jax.vmap(choose)(keys, prediction)
        hidden = carry["ids"] == self.vocabulary
        return {"ids": jnp.where(hidden & revealed, chosen, carry["ids"]).astype(jnp.int32)}

    def result(self, carry: dict[str, Array]) -> Int[Array, "b y x"]:
        """Ids; none is masked after the last evaluation."""
        return carry["ids"]

    def _mask(self, codes: Array, t: Array, chance: Array) -> Array:
        return jnp.where(
            chance < self.masking.masked(t)[:, None, None], self.vocabulary, codes
        ).astype(jnp.int32)
