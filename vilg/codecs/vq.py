"""VQ: pixels <-> ids of a learned codebook (VQ-VAE, VQGAN), as one Trainable with its discriminator.

    image [b H W 3] --encoder--> latents [b y x d] --quantizer--> ids [b y x] --lookup--> embeddings --decoder, output--> image

Training: for `autoencoder_warmup` steps the latents go to the decoder unquantized; then k-means on the bank of recent latents places the
codes, and from there on quantization is straight-through. Parameters are {"encoder", "quantizer", "decoder", "output"} and, where it has
a weight, "discriminator"; the last convolution stands apart as "output" because the adversarial weight needs the gradient there.
Architectures and quantizers are tables; codebook.py moves codes; adversarial.py routes gradients; scoring pictures is left to evals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vilg.codecs import codebook, perceptual
from vilg.codecs.adversarial import Adversary
from vilg.codecs.base import count_codes, perplexity, psnr, to_unit
from vilg.codecs.blocks import convolution, run
from vilg.codecs.convolutional import Convolutional
from vilg.codecs.patch import Patch
from vilg.codecs.quantize import QUANTIZERS
from vilg.config import build, lookup, require
from vilg.parallel.constrain import constrain
from vilg.types import Batch, Metrics, Params

ARCHITECTURES = {"convolutional": Convolutional, "patch": Patch}
PICTURE = ("batch", "rows", "columns", None)


def entry(table: Mapping[str, type], section: Any, path: str) -> Any:
    """The table's class named by section["name"], built from the section; what is built already stays."""
    if not hasattr(section, "items"):
        return section
    return build(lookup(table, section.get("name"), f"{path}.name"), section, path)


@dataclass(frozen=True)
class VQ:
    """The fields are the config. `architecture`, `quantizer` and `discriminator` are sections; the first two have a "name" in a table.

    l1, l2, perceptual_weight, codebook_weight: weights of the loss terms. perceptual: path of LPIPS-VGG weights, "" leaves the term out.
    autoencoder_warmup: steps without quantization; then k-means (0: none). revive_after: every so many updates, codes that were unused
    for that long move to recent latents that are badly represented (0: never). usage_window: updates that usage and perplexity are
    reported over. bank: latents that k-means and revival choose from.
    """

    image_size: int
    vocabulary: int
    code_width: int
    architecture: Any = field(default_factory=lambda: {"name": "patch"})
    quantizer: Any = field(default_factory=lambda: {"name": "nearest"})
    discriminator: Any = field(default_factory=dict)
    l1: float = 1.0
    l2: float = 0.0
    codebook_weight: float = 1.0
    perceptual: str = ""
    perceptual_weight: float = 1.0
    autoencoder_warmup: int = 0
    revive_after: int = 0
    usage_window: int = 100
    bank: int = 8192
    kmeans_rounds: int = 10
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "architecture", entry(ARCHITECTURES, self.architecture, "codec.architecture"))
        object.__setattr__(self, "quantizer", entry(QUANTIZERS, self.quantizer, "codec.quantizer"))
        if not isinstance(self.discriminator, Adversary):
            object.__setattr__(self, "discriminator", build(Adversary, self.discriminator, "codec.discriminator"))
        for name in ("image_size", "code_width", "usage_window", "bank", "kmeans_rounds"):
            require(getattr(self, name) > 0, f"codec.{name}", getattr(self, name), "must be at least 1")
        require(self.vocabulary > 1, "codec.vocabulary", self.vocabulary, "must be at least 2")
        factor = self.architecture.downsample
        require(self.image_size % factor == 0, "codec.image_size", self.image_size, f"must be a multiple of the codec's factor {factor}")
        require(self.l1 + self.l2 > 0, "codec.l1", self.l1, "l1 and l2 are both 0: give one of them a weight")
        self.architecture.encoder(self.image_size, self.code_width, jnp.float32)  # refuses sizes that do not go together
        if self.perceptual:
            perceptual.load(self.perceptual)  # refuses now what would fail in the first step
        if self.adversary.weight > 0:
            smallest = self.adversary.smallest()
            require(self.image_size >= smallest, "codec.discriminator.layers", self.adversary.layers, f"needs images of {smallest} px")

    @property
    def batch_multiple(self) -> int:
        """Any number of rows."""
        return 1

    @property
    def adversary(self) -> Adversary:
        return self.discriminator

    @property
    def grid(self) -> tuple[int, int]:
        return (self.image_size // self.architecture.downsample,) * 2

    @property
    def latent_channels(self) -> int:
        return self.code_width

    @property
    def compute_dtype(self) -> Any:
        return jnp.dtype(self.dtype)

    def describe(self) -> dict[str, str]:
        """What is in the loss and what is left out, for the log and the report."""
        size = f"{self.image_size} px -> {self.grid[0]}x{self.grid[1]} of {self.vocabulary}"
        adversary = f"weight {self.adversary.weight:g} from step {self.adversary.start + self.adversary.warmup}"
        return {
            "codec": size,
            "perceptual": f"LPIPS-VGG from {self.perceptual}" if self.perceptual else "left out (no weights given)",
            "discriminator": adversary if self.adversary.weight > 0 else "left out (weight 0)",
        }

    def init(self, key: Array) -> Params:
        keys = jax.random.split(key, 5)
        image = jnp.zeros((1, self.image_size, self.image_size, 3))
        codes = jnp.zeros((1, *self.grid, self.code_width))
        decoder = self._decoder()
        features = jax.eval_shape(lambda k: decoder.init_with_output(k, codes)[0], keys[1])
        params = {
            "encoder": self._encoder().init(keys[0], image)["params"],
            "decoder": decoder.init(keys[1], codes)["params"],
            "output": self._output().init(keys[2], jnp.zeros(features.shape))["params"],
            "quantizer": self.quantizer.init(keys[3], self.vocabulary, self.code_width),
        }
        if self.adversary.weight > 0:
            params["discriminator"] = self.adversary.network().init(keys[4], image)["params"]
        return params

    def labels(self, params: Params) -> Any:
        """For every parameter "generator" or "discriminator": the published training gives each its own optimizer."""
        return {k: jax.tree.map(lambda _, k=k: "discriminator" if k == "discriminator" else "generator", v) for k, v in params.items()}

    def encode(self, params: Params, images: Float[Array, "b H W 3"]) -> Int[Array, "b y x"]:
        """The codes of images in [-1, 1]: no noise, whatever the quantizer."""
        return self.quantizer.codes(params["quantizer"], self.latents(params, images))

    def decode(self, params: Params, codes: Int[Array, "b y x"]) -> Float[Array, "b H W 3"]:
        """Images, clipped to [-1, 1]."""
        embeddings = self.quantizer.lookup(params["quantizer"], codes)
        return jnp.clip(self._paint(params["output"], self._features(params, embeddings)), -1.0, 1.0)

    def from_latents(self, params: Params, latents: Float[Array, "b y x d"]) -> Float[Array, "b H W 3"]:
        """Images of the latents' nearest codes: LDM's VQ latents, which are quantized on the way out (arXiv 2112.10752, section 3.1)."""
        return self.decode(params, self.quantizer.codes(params["quantizer"], latents))

    def vectors(self, params: Params) -> Float[Array, "v d"]:
        """The vector of each code."""
        return self.quantizer.lookup(params["quantizer"], jnp.arange(self.vocabulary))

    def latents(self, params: Params, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x d"]:
        """The encoder's output before quantization, float32."""
        latents = run(self._encoder(), params["encoder"], constrain(images, *PICTURE))
        return constrain(latents.astype(jnp.float32), "batch", "rows", "columns", None)

    def loss(self, params: Params, batch: Batch, key: Array, step: Array) -> tuple[Array, dict[str, Any]]:
        """Reconstruction + codebook_weight * quantizer loss [+ adversarial], float32; batch["image"] is uint8."""
        images = to_unit(jnp.asarray(batch["image"]))
        latents = self.latents(params, images)
        quantized, codes, quantizer_loss, metrics = self.quantizer.quantize(params["quantizer"], latents, key, step)
        quantizing = (step >= self.autoencoder_warmup).astype(jnp.float32)
        features = self._features(params, jnp.where(quantizing > 0, quantized, latents))
        decoded = self._paint(params["output"], features)

        def objective(decoded: Array) -> Array:
            return sum(self._terms(images, decoded).values(), jnp.float32(0))

        loss = objective(decoded) + quantizing * self.codebook_weight * quantizer_loss
        metrics = {**metrics, **self._terms(images, decoded), "codebook_loss": quantizing * quantizer_loss}
        metrics["psnr"] = psnr(jnp.mean(jnp.square(jnp.clip(decoded, -1, 1) - images)))
        if self.adversary.weight > 0:
            output, held = params["output"], jax.lax.stop_gradient(features)
            adversarial, more = self.adversary.loss(
                params["discriminator"],
                images,
                decoded,
                output["kernel"],
                lambda kernel: self._paint({"kernel": kernel, "bias": output["bias"]}, held),
                objective,
                step,
                self.compute_dtype,
            )
            loss, metrics = loss + adversarial, {**metrics, **more}
        metrics["observed"] = jax.lax.stop_gradient(self._observed(latents, codes, quantizing, key))
        return loss, metrics

    def statistics(self) -> dict[str, Array]:
        return codebook.statistics(self.vocabulary, self.code_width, self.bank)

    def maintain(
        self, params: Params, statistics: dict[str, Array], observed: dict[str, Array], key: Array, step: Array
    ) -> tuple[Params, dict[str, Array], Metrics]:
        """After the update of `step` (the step that `loss` was given): counts; k-means at the end of the warm-up; revival."""
        state = codebook.count(statistics, jnp.sum(observed["counts"], axis=0), self.usage_window)
        state = codebook.remember(state, observed["latents"].reshape(-1, self.code_width))
        quantizer = params["quantizer"]
        if self.autoencoder_warmup > 0:
            due = (step + 1 >= self.autoencoder_warmup) & ~state["seeded"]
            quantizer = jax.lax.cond(due, self._seed, lambda q, s, k: q, quantizer, state, key)
            state = {**state, "seeded": state["seeded"] | due}
        if self.revive_after > 0:
            due = (step + 1 - self.autoencoder_warmup > 0) & ((step + 1 - self.autoencoder_warmup) % self.revive_after == 0)
            dead = due & (state["idle"] >= self.revive_after)
            quantizer = jax.lax.cond(jnp.any(dead), self._revive, lambda q, s, d, k: q, quantizer, state, dead, key)
            state = {**state, "revived": state["revived"] + jnp.sum(dead.astype(jnp.int32))}
        metrics = {
            "codebook_usage": jnp.mean((state["idle"] < self.usage_window).astype(jnp.float32)),
            "perplexity": perplexity(state["usage"]),
            "revived": state["revived"].astype(jnp.float32),
        }
        return {**params, "quantizer": quantizer}, state, metrics

    def _seed(self, quantizer: Params, state: dict[str, Array], key: Array) -> Params:
        real = jnp.arange(self.bank) < state["filled"]
        centres, spread = codebook.kmeans(state["bank"], real, self.vocabulary, self.kmeans_rounds, key)
        return self.quantizer.place(quantizer, centres, spread)

    def _revive(self, quantizer: Params, state: dict[str, Array], dead: Array, key: Array) -> Params:
        choose, move = jax.random.split(key)
        embeddings = self.quantizer.lookup(quantizer, jnp.arange(self.vocabulary))
        sites = codebook.revival_sites(state, embeddings, lambda z: self.quantizer.codes(quantizer, z), choose)
        return self.quantizer.revive(quantizer, dead, sites, move)

    def _observed(self, latents: Array, codes: Array, quantizing: Array, key: Array) -> dict[str, Array]:
        flat = latents.reshape(-1, self.code_width)
        if flat.shape[0] > self.bank:
            flat = flat[jax.random.choice(jax.random.fold_in(key, 1), flat.shape[0], (self.bank,), replace=False)]
        return {"latents": flat, "counts": quantizing * count_codes(codes, self.vocabulary)}

    def _terms(self, images: Array, decoded: Array) -> dict[str, Array]:
        terms = {}
        if self.l1 > 0:
            terms["l1"] = self.l1 * jnp.mean(jnp.abs(decoded - images))
        if self.l2 > 0:
            terms["l2"] = self.l2 * jnp.mean(jnp.square(decoded - images))
        if self.perceptual:
            terms["perceptual"] = self.perceptual_weight * jnp.mean(perceptual.load(self.perceptual)(images, decoded))
        return terms

    def _features(self, params: Params, embeddings: Array) -> Array:
        return run(self._decoder(), params["decoder"], embeddings)

    def _paint(self, output: Params, features: Array) -> Float[Array, "b H W 3"]:
        return constrain(run(self._output(), output, features).astype(jnp.float32), *PICTURE)

    def _encoder(self) -> nn.Module:
        return self.architecture.encoder(self.image_size, self.code_width, self.compute_dtype)

    def _decoder(self) -> nn.Module:
        return self.architecture.decoder(self.image_size, self.code_width, self.compute_dtype)

    def _output(self) -> nn.Module:
        size = self.architecture.output_size
        return convolution(3, size=size, padding=size // 2, dtype=self.compute_dtype)
