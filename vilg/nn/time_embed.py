"""Sinusoidal embedding of diffusion time and the small network after it, shared by both
denoisers.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vilg.nn.dense import dense


def sinusoids(time: Float[Array, " b"], width: int) -> Float[Array, "b w"]:
    """Cosines, then sines, of time at `width` // 2 frequencies from 1 down to (not quite) 1/10,000
    (ADM; an even width).
    """
    half = width // 2
    frequencies = np.exp(-np.log(10_000.0) * np.arange(half) / half).astype(np.float32)
    angles = time.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)


class TimeEmbed(nn.Module):
    """Sinusoids of width `features`, a linear layer, SiLU, a linear layer; float32 throughout but
    for the result's `dtype`.

    With a pooled text vector, a linear function of it is added (GLIDE).
    """

    features: int
    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, time: Float[Array, " b"], pooled: Float[Array, "b d"] | None = None
    ) -> Float[Array, "b w"]:
        init = nn.initializers.lecun_normal()
        hidden = nn.silu(
            dense(self.width, ("embed", "mlp"), "time_in", init)(sinusoids(time, self.features))
        )
        embedding = dense(self.width, ("mlp", "embed"), "time_out", init)(hidden)
        if pooled is not None:
            embedding = embedding + dense(self.width, ("embed", "mlp"), "pooled", init)(
                pooled.astype(jnp.float32)
            )
        return embedding.astype(self.dtype)
