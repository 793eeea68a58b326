"""KL: pixels <-> continuous latents of a Gaussian posterior (VAE; LDM's kl-f8, arXiv 2112.10752),
one Trainable together with its discriminator.

    image [b H W 3] --encoder--> mean, log-variance [b y x c] --sample--> latents [b y x c]
    --decoder, output--> image

Training decodes a sample of the posterior; `latents` is its mean. The latents have the scale that
training gave them, and a diffusion generator measures it (spaces.py). autoencoder.py has the
networks and the loss of a reconstruction.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.codecs.autoencoder import Autoencoder
from vilg.codecs.base import to_unit
from vilg.config import require
from vilg.types import Batch, Params

LOG_VARIANCES = (-30.0, 20.0)  # LDM's clip


@dataclass(frozen=True, kw_only=True)
class KL(Autoencoder):
    """The fields are the config, an Autoencoder's among them.

    LDM (LPIPSWithDiscriminator) sums the errors of all H * W * 3 values of an image, adds kl_weight
    times the divergence summed over its latents, and averages over images. vilg's terms are means
    over those values, so the divergence is divided by H * W * 3 as well: the loss is LDM's up to a
    constant factor, and a kl_weight means the same. So does discriminator.weight, below the limit
    of its ratio: LDM's 1e4 limits a ratio of sums, which is limit = 1e4 / (H * W * 3) here. LDM's
    log-variance of the errors never reached its optimizer; it is left out here, at its initial 0.
    """

    moments: ClassVar[int] = 2

    latent_channels: int  # channels of a latent
    kl_weight: float = 1e-6  # weight of the divergence from the unit Gaussian

    def __post_init__(self) -> None:
        require(
            self.latent_channels > 0,
            "codec.latent_channels",
            self.latent_channels,
            "must be at least 1",
        )
        super().__post_init__()

    @property
    def width(self) -> int:
        """Channels that the decoder takes."""
        return self.latent_channels

    def describe(self) -> dict[str, str]:
        """The size, and the terms of the loss that are used or left out, for log and report."""
        size = (
            f"{self.image_size} px -> {self.grid[0]}x{self.grid[1]} of {self.latent_channels}"
            f" channels, KL weight {self.kl_weight:g}"
        )
        return {"codec": size, **super().describe()}

    def latents(self, params: Params, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x c"]:
        """The posterior's mean, float32."""
        return self.posterior(params, images)[0]

    def from_latents(
        self, params: Params, latents: Float[Array, "b y x c"]
    ) -> Float[Array, "b H W 3"]:
        """Images, clipped to [-1, 1]."""
        return self._decoded(params, latents)

    def posterior(
        self, params: Params, images: Float[Array, "b H W 3"]
    ) -> tuple[Float[Array, "b y x c"], Float[Array, "b y x c"]]:
        """(mean, log-variance clipped to LOG_VARIANCES) of images in [-1, 1]."""
        mean, log_variance = jnp.split(self._encoded(params, images), 2, axis=-1)
        return mean, jnp.clip(log_variance, *LOG_VARIANCES)

    def loss(
        self, params: Params, batch: Batch, key: Array, step: Array
    ) -> tuple[Array, dict[str, Any]]:
        """Reconstruction + kl_weight * divergence / (H W 3) [+ adversarial], float32;
        batch["image"] is uint8.
        """
        images = to_unit(jnp.asarray(batch["image"]))
        mean, log_variance = self.posterior(params, images)
        deviation = jnp.exp(0.5 * log_variance)
        latents = mean + deviation * jax.random.normal(key, mean.shape)
        nats = jnp.mean(divergence(mean, log_variance))
        regularizer = self.kl_weight * nats / images[0].size
        loss, metrics = self.reconstruction(params, images, latents, regularizer, step)
        return loss, {**metrics, "kl": nats, "posterior_deviation": jnp.mean(deviation)}


def divergence(
    mean: Float[Array, "b y x c"], log_variance: Float[Array, "b y x c"]
) -> Float[Array, " b"]:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) in nats, summed over an image's latents."""
    return 0.5 * jnp.sum(
        jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance, axis=(1, 2, 3)
    )
