"""Quantizers: latents to codes and back, with gradients that pass through. `QUANTIZERS` is the
table.

    latents [b y x d] --codes--> ids [b y x] --lookup--> embeddings [b y x d]

A quantizer is a frozen dataclass of config fields; its parameters are a dict that VQ holds. The
moves of codes without a gradient (k-means, revival) are decided in codebook.py; a quantizer only
says how a code is put at a place.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from vilg.config import require
from vilg.parallel.axes import named
from vilg.types import Metrics, Params

Latents = Float[Array, "... d"]
Ids = Int[Array, "..."]


def squared_distances(
    points: Float[Array, "n d"], centres: Float[Array, "k d"]
) -> Float[Array, "n k"]:
    """|p - c|^2 up to a term |p|^2 that is the same for every centre; full precision, since near
    ties decide codes.
    """
    products = jnp.matmul(points, centres.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(jnp.square(centres), axis=-1) - 2.0 * products


def nearest(points: Latents, centres: Float[Array, "k d"]) -> Ids:
    """The index of the nearest centre for each point (the first one of equals)."""
    flat = points.reshape(-1, points.shape[-1])
    return (
        jnp.argmin(squared_distances(flat, centres), axis=-1)
        .astype(jnp.int32)
        .reshape(points.shape[:-1])
    )


@runtime_checkable
class Quantizer(Protocol):
    """An entry of QUANTIZERS."""

    def init(self, key: Array, vocabulary: int, width: int) -> Params:
        """Boxed parameters of `vocabulary` codes of this width."""
        ...

    def codes(self, params: Params, latents: Latents) -> Ids:
        """The code of each latent, deterministic."""
        ...

    def lookup(self, params: Params, ids: Ids) -> Latents:
        """The embedding of each code."""
        ...

    def quantize(
        self, params: Params, latents: Latents, key: Array, step: Array
    ) -> tuple[Latents, Ids, Array, Metrics]:
        """In training: (embeddings through which gradients pass to the latents, codes, the
        quantizer's loss, metrics).
        """
        ...

    def place(self, params: Params, centres: Float[Array, "v d"], spread: Array) -> Params:
        """The parameters with every code at a centre of k-means; `spread` is the mean squared
        distance to the centres.
        """
        ...

    def revive(
        self, params: Params, dead: Bool[Array, " v"], targets: Float[Array, "v d"], key: Array
    ) -> Params:
        """The parameters with the dead codes at their targets."""
        ...


@dataclass(frozen=True)
class Nearest:
    """The nearest code by Euclidean distance, straight-through (VQ-VAE; `VectorQuantizer2` of
    taming).

    loss = mean((sg[z] - e)^2) + beta mean((z - sg[e])^2). `legacy_beta` puts beta on the first term
    instead, as taming's default does (PAPERS 3.4): only for reproducing runs of that code.
    """

    beta: float = 0.25  # weight of the commitment term
    legacy_beta: bool = False  # beta weighs the codebook's term instead, as taming's default does

    def __post_init__(self) -> None:
        require(self.beta >= 0, "quantizer.beta", self.beta, "must not be negative")

    def init(self, key: Array, vocabulary: int, width: int) -> Params:
        def uniform(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
            return jax.random.uniform(key, shape, dtype, -1.0 / vocabulary, 1.0 / vocabulary)

        return {"codebook": named(uniform, "codebook", "embed")(key, (vocabulary, width))}

    def codes(self, params: Params, latents: Latents) -> Ids:
        return nearest(latents, params["codebook"])

    def lookup(self, params: Params, ids: Ids) -> Latents:
        return params["codebook"][ids]

    def quantize(
        self, params: Params, latents: Latents, key: Array, step: Array
    ) -> tuple[Latents, Ids, Array, Metrics]:
        ids = jax.lax.stop_gradient(self.codes(params, latents))
        embeddings = self.lookup(params, ids)
        codebook = jnp.mean(jnp.square(jax.lax.stop_gradient(latents) - embeddings))
        commitment = jnp.mean(jnp.square(latents - jax.lax.stop_gradient(embeddings)))
        loss = (
            self.beta * codebook + commitment
            if self.legacy_beta
            else codebook + self.beta * commitment
        )
        passed = latents + jax.lax.stop_gradient(embeddings - latents)
        return passed, ids, loss, {"commitment": commitment}

    def place(self, params: Params, centres: Float[Array, "v d"], spread: Array) -> Params:
        return {**params, "codebook": centres}

    def revive(
        self, params: Params, dead: Bool[Array, " v"], targets: Float[Array, "v d"], key: Array
    ) -> Params:
        return {**params, "codebook": jnp.where(dead[:, None], targets, params["codebook"])}


@dataclass(frozen=True)
class Gumbel:
    """A categorical distribution over codes, sampled by hard Gumbel-softmax, straight-through
    (DALL-E; `GumbelQuantize` of taming).

    The temperature falls along a cosine from `temperature` to `temperature_end` over
    `temperature_steps` steps. loss = kl_weight * mean over positions of KL(softmax(logits) ||
    uniform). Encoding is the argmax of the logits; the released code adds noise there too (PAPERS
    3.2, a trap).
    """

    temperature: float = 0.9  # of the Gumbel-softmax at the first update
    temperature_end: float = 1e-6  # of the Gumbel-softmax in the end, along a cosine
    temperature_steps: int = 1_000_001  # updates until then
    kl_weight: float = 1e-8  # weight of the divergence from equally used codes

    def __post_init__(self) -> None:
        falls = 0 < self.temperature_end <= self.temperature
        require(
            falls,
            "quantizer.temperature_end",
            self.temperature_end,
            f"must be above 0, at most temperature={self.temperature}",
        )
        require(
            self.temperature_steps > 0,
            "quantizer.temperature_steps",
            self.temperature_steps,
            "must be at least 1",
        )
        require(self.kl_weight >= 0, "quantizer.kl_weight", self.kl_weight, "must not be negative")

    def init(self, key: Array, vocabulary: int, width: int) -> Params:
        project, embed = jax.random.split(key)
        return {
            "projection": {
                "kernel": named(nn.initializers.lecun_normal(), "channels_in", "codebook")(
                    project, (width, vocabulary)
                ),
                "bias": named(nn.initializers.zeros_init(), "codebook")(project, (vocabulary,)),
            },
            "codebook": named(nn.initializers.normal(1.0), "codebook", "embed")(
                embed, (vocabulary, width)
            ),
        }

    def temperature_at(self, step: Array) -> Array:
        """The temperature at a step; the end value after the last one."""
        fraction = jnp.clip(step / self.temperature_steps, 0.0, 1.0)
        return self.temperature_end + 0.5 * (self.temperature - self.temperature_end) * (
            1.0 + jnp.cos(jnp.pi * fraction)
        )

    def logits(self, params: Params, latents: Latents) -> Float[Array, "... v"]:
        project = params["projection"]
        return (
            jnp.matmul(latents, project["kernel"], precision=jax.lax.Precision.HIGHEST)
            + project["bias"]
        )

    def codes(self, params: Params, latents: Latents) -> Ids:
        return jnp.argmax(self.logits(params, latents), axis=-1).astype(jnp.int32)

    def lookup(self, params: Params, ids: Ids) -> Latents:
        return params["codebook"][ids]

    def quantize(
        self, params: Params, latents: Latents, key: Array, step: Array
    ) -> tuple[Latents, Ids, Array, Metrics]:
        logits = self.logits(params, latents)
        temperature = self.temperature_at(step)
        soft = jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape)) / temperature)
        ids = jnp.argmax(soft, axis=-1).astype(jnp.int32)
        hard = jax.nn.one_hot(ids, soft.shape[-1], dtype=soft.dtype)
        embeddings = jnp.matmul(
            soft + jax.lax.stop_gradient(hard - soft),
            params["codebook"],
            precision=jax.lax.Precision.HIGHEST,
        )
        q = jax.nn.softmax(logits)
        divergence = jnp.mean(jnp.sum(q * jnp.log(q * q.shape[-1] + 1e-10), axis=-1))
        return (
            embeddings,
            ids,
            self.kl_weight * divergence,
            {"temperature": temperature, "kl": divergence},
        )

    def place(self, params: Params, centres: Float[Array, "v d"], spread: Array) -> Params:
        """The logits become those of the posterior of equal Gaussians at the centres with `spread`
        as their mean squared radius: their argmax is the nearest centre.
        """
        scale = centres.shape[-1] / jnp.maximum(spread, 1e-6)
        projection = {
            "kernel": scale * centres.T,
            "bias": -0.5 * scale * jnp.sum(jnp.square(centres), axis=-1),
        }
        return {**params, "projection": projection, "codebook": centres}

    def revive(
        self, params: Params, dead: Bool[Array, " v"], targets: Float[Array, "v d"], key: Array
    ) -> Params:
        """Each dead code becomes a copy of the code that its target is quantized to now, with
        logits that lean towards the target by a hundredth.
        """
        kernel, bias = params["projection"]["kernel"], params["projection"]["bias"]
        source = self.codes(params, targets)
        gap = targets - params["codebook"][source]
        lean = (
            0.01
            * jnp.linalg.norm(kernel[:, source], axis=0)
            / (jnp.linalg.norm(gap, axis=-1) + 1e-6)
        )
        tilt = gap * lean[:, None]
        moved = kernel[:, source] + tilt.T
        offset = bias[source] - jnp.sum(tilt * params["codebook"][source], axis=-1)
        projection = {
            "kernel": jnp.where(dead[None, :], moved, kernel),
            "bias": jnp.where(dead, offset, bias),
        }
        return {
            **params,
            "projection": projection,
            "codebook": jnp.where(dead[:, None], targets, params["codebook"]),
        }


QUANTIZERS: dict[str, type[Nearest] | type[Gumbel]] = {"nearest": Nearest, "gumbel": Gumbel}
