"""What the rows of image codes share: functions of the codec's own code vectors, added to the rows
that each code has for itself.

Codes that look alike then have embeddings and output rows that move together: what is learned of
one holds for its neighbours, which helps where thousands of codes are each met rarely. (VAR, arXiv
2404.02905, embeds code vectors by a linear map.) Separate from the model because nothing else there
knows where a code's row comes from: the rows are computed once, then used as a table."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.parallel.axes import named
from vilg.types import Params

# one update moves all rows at once: at a gain of 1 the loss rose again at the learning rates that a
# table takes
GAIN = 0.1


class CodeTables(nn.Module):
    """Two perceptrons of one hidden layer that begin at zero: code vectors -> input embeddings, and
    -> rows of the output head.
    """

    vocabulary: int
    code_width: int
    width: int
    head: bool

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "v d"], Float[Array, "v d"] | None]:
        # Standardised; put there by `adopt`, never trained.
        given = self.param(
            "vectors",
            named(nn.initializers.normal(1.0), "vocab", "code"),
            (self.vocabulary, self.code_width),
            jnp.float32,
        )
        vectors = jnp.concatenate([jax.lax.stop_gradient(given), jnp.ones_like(given[:, :1])], 1)
        return self._perceptron("input", vectors), (
            self._perceptron("output", vectors) if self.head else None
        )

    def _perceptron(self, name: str, vectors: Float[Array, "v e"]) -> Float[Array, "v w"]:
        d, f = vectors.shape[1], 2 * self.width
        hidden = self.param(
            f"{name}_hidden",
            named(nn.initializers.normal((2 / d) ** 0.5), "code", "mlp"),
            (d, f),
            jnp.float32,
        )
        outer = self.param(
            f"{name}_outer",
            named(nn.initializers.zeros_init(), "mlp", "embed"),
            (f, self.width),
            jnp.float32,
        )
        return GAIN * (nn.gelu(vectors @ hidden) @ outer)


def adopt(tables: Params, vectors: Float[Array, "v d"]) -> Params:
    """The parameters with the codec's vectors in them, centred and scaled to a variance of 1."""
    centred = vectors - jnp.mean(vectors, 0)
    return {**tables, "vectors": centred / jnp.maximum(jnp.std(centred), 1e-6)}
