"""PatchGAN: a convolutional discriminator of overlapping patches, and the hinge loss (PAPERS 3.4;
`discriminator/model.py` of taming).

A difference from the published one: GroupNorm instead of BatchNorm, because a loss here depends on
parameters and on nothing that batches leave behind. The routing of gradients and the weight of the
generator's term are in adversarial.py.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.codecs.blocks import convolution, group_norm

normal = nn.initializers.normal(0.02)


class PatchGAN(nn.Module):
    """4x4 convolutions: `layers` of stride 2 with doubling width (at most 8 times), one of stride
    1, one to a single channel of logits.
    """

    width: int = 64
    layers: int = 3
    groups: int = 32
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x 1"]:
        x = convolution(
            self.width, "conv_0", size=4, stride=2, kernel_init=normal, dtype=self.dtype
        )(images.astype(self.dtype))
        x = nn.leaky_relu(x, 0.2)
        for i in range(1, self.layers + 1):
            width, stride = self.width * min(2**i, 8), 2 if i < self.layers else 1
            x = convolution(
                width, f"conv_{i}", 4, stride, use_bias=False, kernel_init=normal, dtype=self.dtype
            )(x)
            x = nn.leaky_relu(group_norm(self.groups, f"norm_{i}", self.dtype)(x), 0.2)
        logits = convolution(
            1, f"conv_{self.layers + 1}", size=4, kernel_init=normal, dtype=self.dtype
        )(x)
        return logits.astype(jnp.float32)


def hinge(real: Float[Array, "..."], fake: Float[Array, "..."]) -> Float[Array, ""]:
    """The discriminator's loss: half of mean relu(1 - D(real)) + mean relu(1 + D(fake))."""
    return 0.5 * (jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake)))
