"""The embedding of diffusion time, shared by both denoisers: sinusoids and a small network."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.nn.dense import dense


def sinusoids(time: Float[Array, " b"], width: int) -> Float[Array, "b w"]:
    """Cosines, then sines, of time at `width` // 2 frequencies from 1 down to (not quite) 1/10,000
    (as in ADM; for an even width).
    """
    half = width // 2
    frequencies = np.exp(-np.log(10_000.0) * np.arange(half) / half).astype(np.float32)
    angles = time.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)


class TimeEmbed(nn.Module):
    """Sinusoids of width `features`, a linear layer, SiLU, a linear layer, all in float32; the
    result is [b, width] in `dtype`. With a pooled text vector, a linear function of it is added
    (GLIDE).
    """

    features: int
    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, time: Float[Array, " b"], pooled: Float[Array, "b d"] | None = None
    ) -> Float[Array, "b w"]:
        init = nn.initializers.lecun_normal()
        hidden = dense(self.width, ("embed", "mlp"), "time_in", init)(
            sinusoids(time, self.features)
        )
        embedding = dense(self.width, ("mlp", "embed"), "time_out", init)(nn.silu(hidden))
        if pooled is not None:
            project = dense(self.width, ("embed", "mlp"), "pooled", init)
            embedding = embedding + project(pooled.astype(jnp.float32))
        return embedding.astype(self.dtype)
