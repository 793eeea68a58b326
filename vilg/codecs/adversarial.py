"""The adversarial part of a learned codec's loss: who gets which gradient, from which step, and
with what weight.

One sum for one optimizer step: stop_gradient routes the discriminator's loss to the discriminator
alone and the generator's term to the codec alone, so that the loop needs no second phase. Separate
from discriminator.py, which is only the network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.codecs.blocks import run
from vilg.codecs.discriminator import PatchGAN, hinge
from vilg.config import require
from vilg.types import Metrics, Params

stop = jax.lax.stop_gradient


@dataclass(frozen=True)
class Adversary:
    """weight 0: no discriminator at all, no parameters. It trains from step `start`; `warmup` steps
    later its loss reaches the codec. `limit`: the most that the adaptive weight's ratio may be."""

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

    def network(self, dtype: Any = jnp.float32) -> PatchGAN:
        return PatchGAN(self.width, self.layers, self.groups, dtype)

    def smallest(self) -> int:
        """The smallest image that leaves a logit."""
        return 3 * 2**self.layers

    def loss(
        self,
        params: Params,
        images: Float[Array, "b H W 3"],
        decoded: Float[Array, "b H W 3"],
        kernel: Array,
        repaint: Callable[[Array], Float[Array, "b H W 3"]],
        objective: Callable[[Float[Array, "b H W 3"]], Array],
        step: Array,
        dtype: Any = jnp.float32,
    ) -> tuple[Array, Metrics]:
        """Discriminator loss + adaptive weight * generator term.

        `repaint(kernel)` gives `decoded` as a function of the decoder's last kernel alone;
        `objective` is the reconstruction loss of an image. weight lambda = clamp(|d objective / d
        kernel| / (|d generator / d kernel| + 1e-4), 0, limit) * weight (PAPERS 3.4)."""
        network = self.network(dtype)

        def judge(params: Params, images: Array) -> Array:
            return run(network, params, images)

        def generator(images: Array) -> Array:
            return -jnp.mean(judge(stop(params), images))

        def active(
            params: Params, images: Array, decoded: Array, kernel: Array
        ) -> tuple[Array, Metrics]:
            critic = hinge(judge(params, stop(images)), judge(params, stop(decoded)))
            weight = self.weight * adaptive_weight(
                kernel, lambda k: objective(repaint(k)), lambda k: generator(repaint(k)), self.limit
            )
            weight = jnp.where(step >= self.start + self.warmup, weight, 0.0)
            term = generator(decoded)
            return critic + weight * term, {
                "discriminator": critic,
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
    objective: Callable[[Array], Array],
    generator: Callable[[Array], Array],
    limit: float = 1e4,
) -> Float[Array, ""]:
    """The ratio of the two gradients' norms at the last kernel, in [0, limit]; no gradient passes
    through it.
    """
    wanted, adversarial = jax.grad(objective)(stop(kernel)), jax.grad(generator)(stop(kernel))
    ratio = jnp.linalg.norm(wanted.ravel()) / (jnp.linalg.norm(adversarial.ravel()) + 1e-4)
    return stop(jnp.clip(ratio, 0.0, limit))
