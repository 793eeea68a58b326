"""VQ: pixels <-> ids of a learned codebook (VQ-VAE, VQGAN), as one Trainable with its
discriminator.

    image [b H W 3] --encoder--> latents [b y x d] --quantizer--> ids [b y x] --lookup--> embeddings
    --decoder, output--> image

Training: for `autoencoder_warmup` steps the latents go to the decoder unquantized; then k-means on
the bank of recent latents places the codes, and from there on quantization is straight-through.
Parameters are an Autoencoder's and "quantizer". Quantizers are a table; codebook.py moves codes;
autoencoder.py has the networks and the loss of a reconstruction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vilg.codecs import codebook
from vilg.codecs.autoencoder import Autoencoder
from vilg.codecs.base import count_codes, perplexity, to_unit
from vilg.codecs.quantize import QUANTIZERS
from vilg.config import require
from vilg.types import Batch, Metrics, Params


@dataclass(frozen=True, kw_only=True)
class VQ(Autoencoder):
    """The fields are the config, an Autoencoder's among them. `quantizer` is a section with a
    "name" in QUANTIZERS.

    codebook_weight: weight of the quantizer's loss. autoencoder_warmup: steps without quantization;
    then k-means (0: none). revive_after: every so many updates, codes that were unused for that
    long move to recent latents that are badly represented (0: never). usage_window: updates that
    usage and perplexity are reported over. bank: latents that k-means and revival choose from."""

    PARTS: ClassVar[Mapping[str, Any]] = {**Autoencoder.PARTS, "quantizer": QUANTIZERS}

    vocabulary: int  # codes in the codebook
    code_width: int  # length of a code's vector
    # section: "name" is one of QUANTIZERS
    quantizer: Any = field(default_factory=lambda: {"name": "nearest"})
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
        return self.code_width

    @property
    def latent_channels(self) -> int:
        return self.code_width

    def describe(self) -> dict[str, str]:
        """What is in the loss and what is left out, for the log and the report."""
        size = f"{self.image_size} px -> {self.grid[0]}x{self.grid[1]} of {self.vocabulary}"
        return {"codec": size, **super().describe()}

    def init(self, key: Array) -> Params:
        return {
            **super().init(key),
            "quantizer": self.quantizer.init(
                jax.random.split(key, 5)[3], self.vocabulary, self.code_width
            ),
        }

    def encode(self, params: Params, images: Float[Array, "b H W 3"]) -> Int[Array, "b y x"]:
        """The codes of images in [-1, 1]: no noise, whatever the quantizer."""
        return self.quantizer.codes(params["quantizer"], self.latents(params, images))

    def decode(self, params: Params, codes: Int[Array, "b y x"]) -> Float[Array, "b H W 3"]:
        """Images, clipped to [-1, 1]."""
        return self._decoded(params, self.quantizer.lookup(params["quantizer"], codes))

    def from_latents(
        self, params: Params, latents: Float[Array, "b y x d"]
    ) -> Float[Array, "b H W 3"]:
        """Images of the latents' nearest codes: LDM's VQ latents, which are quantized on the way
        out (arXiv 2112.10752, section 3.1).
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
        inner = jnp.where(quantizing > 0, quantized, latents)
        loss, more = self.reconstruction(
            params, images, inner, quantizing * self.codebook_weight * quantizer_loss, step
        )
        metrics = {**metrics, **more, "codebook_loss": quantizing * quantizer_loss}
        metrics["observed"] = jax.lax.stop_gradient(self._observed(latents, codes, quantizing, key))
        return loss, metrics

    def init_statistics(self) -> dict[str, Array]:
        return codebook.statistics(self.vocabulary, self.code_width, self.bank)

    def after_update(
        self,
        params: Params,
        statistics: dict[str, Array],
        observed: dict[str, Array],
        key: Array,
        step: Array,
    ) -> tuple[Params, dict[str, Array], Metrics]:
        """After the update of `step` (the step that `loss` was given): counts; k-means at the end
        of the warm-up; revival.
        """
        state = codebook.count(statistics, jnp.sum(observed["counts"], axis=0), self.usage_window)
        state = codebook.remember(state, observed["latents"].reshape(-1, self.code_width))
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

    def _seed(self, quantizer: Params, state: dict[str, Array], key: Array) -> Params:
        real = jnp.arange(self.bank) < state["filled"]
        centres, spread = codebook.kmeans(
            state["bank"], real, self.vocabulary, self.kmeans_rounds, key
        )
        return self.quantizer.place(quantizer, centres, spread)

    def _revive(
        self, quantizer: Params, state: dict[str, Array], dead: Array, key: Array
    ) -> Params:
        choose, move = jax.random.split(key)
        embeddings = self.quantizer.lookup(quantizer, jnp.arange(self.vocabulary))
        sites = codebook.revival_sites(
            state, embeddings, lambda z: self.quantizer.codes(quantizer, z), choose
        )
        return self.quantizer.revive(quantizer, dead, sites, move)

    def _observed(
        self, latents: Array, codes: Array, quantizing: Array, key: Array
    ) -> dict[str, Array]:
        flat = latents.reshape(-1, self.code_width)
        if flat.shape[0] > self.bank:
            flat = flat[
                jax.random.choice(
                    jax.random.fold_in(key, 1), flat.shape[0], (self.bank,), replace=False
                )
            ]
        return {"latents": flat, "counts": quantizing * count_codes(codes, self.vocabulary)}
