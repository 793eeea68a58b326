"""The adversarial part of a learned codec's loss: which parameters get which gradient, from which
step, and with what weight.

One sum serves one optimizer step: stop_gradient routes the discriminator's loss to the
discriminator alone and the generator's term to the codec alone, so that the training loop needs no
second phase. Separate from discriminator.py, which holds only the network.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.codecs.blocks import run
from vilg.codecs.discriminator import PatchGAN, hinge
from vilg.config import require
from vilg.types import Metrics, Params

stop = jax.lax.stop_gradient
Images = Float[Array, "b H W 3"]


@dataclass(frozen=True)
class Adversary:
    """The discriminator and its loss, as a section of a codec. It trains from step `start`;
    `warmup` steps later its judgement reaches the codec.
    """

    # weight of the adversarial term; 0: no discriminator and no parameters of it
    weight: float = 0.0
    start: int = 0  # update from which the discriminator is trained
    warmup: int = 0  # updates after `start` until the discriminator's loss reaches the codec
    width: int = 64  # channels of its first convolution
    layers: int = 3  # convolutions of stride 2
    groups: int = 32  # groups of the group norms
    limit: float = 1e4  # largest ratio of gradients by which the weight is multiplied

    def __post_init__(self) -> None:
        for field in ("width", "layers", "groups"):
            require(
                getattr(self, field) > 0,
                f"discriminator.{field}",
                getattr(self, field),
                "must be at least 1",
            )
        require(
            (2 * self.width) % self.groups == 0,
            "discriminator.groups",
            self.groups,
            f"must divide twice width={self.width}",
        )

    def network(self, dtype: DTypeLike = jnp.float32) -> PatchGAN:
        """The discriminator."""
        return PatchGAN(self.width, self.layers, self.groups, dtype)

    def smallest_image(self) -> int:
        """The rows and columns of the smallest image for which the discriminator has a logit."""
        return 3 * 2**self.layers

    def loss(
        self,
        params: Params,
        images: Images,
        decoded: Images,
        kernel: Array,
        decode_with: Callable[[Array], Images],
        reconstruction_loss: Callable[[Images], Array],
        step: Array,
        dtype: DTypeLike = jnp.float32,
    ) -> tuple[Array, Metrics]:
        """Discriminator loss + adaptive weight * generator term.

        `decode_with(kernel)` gives `decoded` as a function of the decoder's last kernel alone. The
        weight is lambda = clamp(|d reconstruction_loss / d kernel| / (|d generator / d kernel| +
        1e-4), 0, limit) * weight (PAPERS 3.4).
        """
        network = self.network(dtype)

        def discriminate(params: Params, images: Array) -> Array:
            return run(network, params, images)

        def generator(images: Array) -> Array:
            return -jnp.mean(discriminate(stop(params), images))

        def active(
            params: Params, images: Array, decoded: Array, kernel: Array
        ) -> tuple[Array, Metrics]:
            real, fake = (discriminate(params, stop(x)) for x in (images, decoded))
            discriminator_loss = hinge(real, fake)
            weight = self.weight * adaptive_weight(
                kernel,
                lambda k: reconstruction_loss(decode_with(k)),
                lambda k: generator(decode_with(k)),
                self.limit,
            )
            weight = jnp.where(step >= self.start + self.warmup, weight, 0.0)
            term = generator(decoded)
            return discriminator_loss + weight * term, {
                "discriminator": discriminator_loss,
                "generator": term,
                "adaptive_weight": weight,
            }

        def idle(
            params: Params, images: Array, decoded: Array, kernel: Array
        ) -> tuple[Array, Metrics]:
            zero = jnp.zeros((), jnp.float32)
            return zero, {"discriminator": zero, "generator": zero, "adaptive_weight": zero}

        return jax.lax.cond(step >= self.start, active, idle, params, images, decoded, stop(kernel))


def adaptive_weight(
    kernel: Array,
    reconstruction_loss: Callable[[Array], Array],
    generator: Callable[[Array], Array],
    limit: float = 1e4,
) -> Float[Array, ""]:
    """The ratio of the two gradients' norms at the last kernel, in [0, limit]; no gradient passes
    through it.
    """
    wanted = jax.grad(reconstruction_loss)(stop(kernel))
    adversarial = jax.grad(generator)(stop(kernel))
    ratio = jnp.linalg.norm(wanted.ravel()) / (jnp.linalg.norm(adversarial.ravel()) + 1e-4)
    return stop(jnp.clip(ratio, 0.0, limit))
