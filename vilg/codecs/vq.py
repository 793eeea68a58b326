"""VQ: pixels <-> ids of a learned codebook (VQ-VAE, VQGAN), one Trainable together with its
discriminator.

    image [b H W 3] --encoder--> latents [b y x d] --quantizer--> ids [b y x] --lookup--> embeddings
    --decoder, output--> image

Training: for `autoencoder_warmup` steps the decoder gets the latents unquantized; then k-means on
the bank of recent latents places the codes, and from there on quantization is straight-through.
Parameters are an Autoencoder's and "quantizer". QUANTIZERS is the table of quantizers; codebook.py
moves codes; autoencoder.py has the networks and the loss of a reconstruction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vilg.codecs import codebook
from vilg.codecs.autoencoder import Autoencoder
from vilg.codecs.base import count_codes, perplexity, to_unit
from vilg.codecs.codebook import Statistics
from vilg.codecs.quantize import QUANTIZERS, Quantizer
from vilg.config import Section, require, section
from vilg.types import Batch, Metrics, Params


@dataclass(frozen=True, kw_only=True)
class VQ(Autoencoder):
    """The fields are the config, an Autoencoder's among them. `quantizer` may be given as a
    section, whose "name" is in QUANTIZERS.

    Every `revive_after` updates the codes that were unused for that long move to recent latents
    that the codebook represents badly.
    """

    PARTS: ClassVar[Mapping[str, Any]] = {**Autoencoder.PARTS, "quantizer": QUANTIZERS}

    vocabulary: int  # codes in the codebook
    code_width: int  # length of a code's vector
    # section: "name" is one of QUANTIZERS
    quantizer: Section[Quantizer] = section(name="nearest")
    codebook_weight: float = 1.0  # weight of the quantizer's loss
    # updates without quantization, then k-means sets the codes; 0: none
    autoencoder_warmup: int = 0
    # updates without use after which a code moves to a recent latent; 0: never
    revive_after: int = 0
    usage_window: int = 100  # updates over which usage and perplexity are reported
    bank: int = 8192  # recent latents from which k-means and revived codes choose
    kmeans_rounds: int = 10  # rounds of k-means

    def __post_init__(self) -> None:
        for name in ("code_width", "usage_window", "bank", "kmeans_rounds"):
            require(
                getattr(self, name) > 0, f"codec.{name}", getattr(self, name), "must be at least 1"
            )
        require(self.vocabulary > 1, "codec.vocabulary", self.vocabulary, "must be at least 2")
        super().__post_init__()

    @property
    def width(self) -> int:
        """Channels that the decoder takes."""
        return self.code_width

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.code_width

    def describe(self) -> dict[str, str]:
        """The size, and the terms of the loss that are used or left out, for log and report."""
        size = f"{self.image_size} px -> {self.grid[0]}x{self.grid[1]} of {self.vocabulary}"
        return {"codec": size, **super().describe()}

    def init(self, key: Array) -> Params:
        """Boxed parameters."""
        return {
            **super().init(key),
            "quantizer": self.quantizer.init(
                jax.random.split(key, 5)[3], self.vocabulary, self.code_width
            ),
        }

    def encode(self, params: Params, images: Float[Array, "b H W 3"]) -> Int[Array, "b y x"]:
        """The codes of images in [-1, 1], without noise for every quantizer."""
        return self.quantizer.codes(params["quantizer"], self.latents(params, images))

    def decode(self, params: Params, codes: Int[Array, "b y x"]) -> Float[Array, "b H W 3"]:
        """Images, clipped to [-1, 1]."""
        return self._decoded(params, self.quantizer.lookup(params["quantizer"], codes))

    def from_latents(
        self, params: Params, latents: Float[Array, "b y x d"]
    ) -> Float[Array, "b H W 3"]:
        """Images of the latents' codes: as in LDM, latents are quantized when they are decoded
        (arXiv 2112.10752, section 3.1).
        """
        return self.decode(params, self.quantizer.codes(params["quantizer"], latents))

    def vectors(self, params: Params) -> Float[Array, "v d"]:
        """The vector of each code."""
        return self.quantizer.lookup(params["quantizer"], jnp.arange(self.vocabulary))

    def latents(self, params: Params, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x d"]:
        """The encoder's output before quantization, float32."""
        return self._encoded(params, images)

    def loss(
        self, params: Params, batch: Batch, key: Array, step: Array
    ) -> tuple[Array, dict[str, Any]]:
        """Reconstruction + codebook_weight * quantizer loss [+ adversarial], float32;
        batch["image"] is uint8.
        """
        images = to_unit(jnp.asarray(batch["image"]))
        latents = self.latents(params, images)
        quantized, codes, quantizer_loss, metrics = self.quantizer.quantize(
            params["quantizer"], latents, key, step
        )
        quantizing = (step >= self.autoencoder_warmup).astype(jnp.float32)
        decoded = jnp.where(quantizing > 0, quantized, latents)
        loss, more = self.reconstruction(
            params, images, decoded, quantizing * self.codebook_weight * quantizer_loss, step
        )
        metrics = {**metrics, **more, "codebook_loss": quantizing * quantizer_loss}
        metrics["observed"] = jax.lax.stop_gradient(self._observed(latents, codes, quantizing, key))
        return loss, metrics

    def init_statistics(self) -> Statistics:
        """The state of the codebook beside its parameters (codebook.py)."""
        return codebook.init_statistics(self.vocabulary, self.code_width, self.bank)

    def after_update(
        self,
        params: Params,
        statistics: Statistics,
        observed: dict[str, Array],
        key: Array,
        step: Array,
    ) -> tuple[Params, Statistics, Metrics]:
        """After the update of `step` (the argument of `loss`): usage is counted, k-means places
        the codes at the end of the warm-up, and dead codes are revived.
        """
        counts = jnp.sum(observed["counts"], axis=0)
        state = codebook.count_usage(statistics, counts, self.usage_window)
        state = codebook.add_to_bank(state, observed["latents"].reshape(-1, self.code_width))
        quantizer = params["quantizer"]
        if self.autoencoder_warmup > 0:
            due = (step + 1 >= self.autoencoder_warmup) & ~state["seeded"]
            quantizer = jax.lax.cond(due, self._seed, lambda q, s, k: q, quantizer, state, key)
            state = {**state, "seeded": state["seeded"] | due}
        if self.revive_after > 0:
            due = (step + 1 - self.autoencoder_warmup > 0) & (
                (step + 1 - self.autoencoder_warmup) % self.revive_after == 0
            )
            dead = due & (state["idle"] >= self.revive_after)
            quantizer = jax.lax.cond(
                jnp.any(dead), self._revive, lambda q, s, d, k: q, quantizer, state, dead, key
            )
            state = {**state, "revived": state["revived"] + jnp.sum(dead.astype(jnp.int32))}
        metrics = {
            "codebook_usage": jnp.mean((state["idle"] < self.usage_window).astype(jnp.float32)),
            "perplexity": perplexity(state["usage"]),
            "revived": state["revived"].astype(jnp.float32),
        }
        return {**params, "quantizer": quantizer}, state, metrics

    def _seed(self, quantizer: Params, statistics: Statistics, key: Array) -> Params:
        """The quantizer with its codes at the centres of k-means on the bank."""
        bank = statistics["bank"]
        real = jnp.arange(self.bank) < statistics["filled"]
        centres, spread = codebook.kmeans(bank, real, self.vocabulary, self.kmeans_rounds, key)
        return self.quantizer.place(quantizer, centres, spread)

    def _revive(
        self, quantizer: Params, statistics: Statistics, dead: Bool[Array, " v"], key: Array
    ) -> Params:
        """The quantizer with its dead codes at latents that it represents badly."""
        choose, move = jax.random.split(key)
        embeddings = self.quantizer.lookup(quantizer, jnp.arange(self.vocabulary))
        targets = codebook.revival_targets(
            statistics, embeddings, lambda z: self.quantizer.codes(quantizer, z), choose
        )
        return self.quantizer.revive(quantizer, dead, targets, move)

    def _observed(
        self, latents: Array, codes: Array, quantizing: Array, key: Array
    ) -> dict[str, Array]:
        """A microbatch's part of `after_update`: latents, at most as many as the bank holds, and
        the counts of codes.
        """
        flat = latents.reshape(-1, self.code_width)
        if flat.shape[0] > self.bank:
            key = jax.random.fold_in(key, 1)
            flat = flat[jax.random.choice(key, flat.shape[0], (self.bank,), replace=False)]
        return {"latents": flat, "counts": quantizing * count_codes(codes, self.vocabulary)}
