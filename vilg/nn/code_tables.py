"""Rows of the image code tables that are functions of the codec's code vectors, added to the rows
that each code has of its own.

The embeddings and output rows of codes that look alike then move together: what the model learns of
one code holds for its neighbours, which helps where thousands of codes are each met rarely. (VAR,
arXiv 2404.02905, embeds code vectors by a linear map.) Separate from the model because nothing else
there depends on the origin of a code's row: the rows are computed once, then used as a table.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Float

from vilg.parallel.axes import named
from vilg.types import Params

# Factor of the rows. One update moves all rows at once: with a factor of 1 the loss rose again at
# the learning rates that suit a table.
GAIN = 0.1


class CodeTables(nn.Module):
    """Two perceptrons of one hidden layer, whose results are zero as initialised: code vectors ->
    input embeddings, and (with `head`) -> rows of the output head.
    """

    vocabulary: int
    code_width: int
    width: int
    head: bool

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "v d"], Float[Array, "v d"] | None]:
        # standardised code vectors, which `adopt` puts there and no update changes
        init, shape = nn.initializers.normal(1.0), (self.vocabulary, self.code_width)
        vectors = self._weight("vectors", init, shape, "vocab", "code")
        ones = jnp.ones_like(vectors[:, :1])  # takes the place of a bias
        vectors = jnp.concatenate([jax.lax.stop_gradient(vectors), ones], 1)
        embeddings = self._perceptron("input", vectors)
        return embeddings, self._perceptron("output", vectors) if self.head else None

    def _perceptron(self, name: str, vectors: Float[Array, "v e"]) -> Float[Array, "v w"]:
        d, f = vectors.shape[1], 2 * self.width
        normal, zeros = nn.initializers.normal((2 / d) ** 0.5), nn.initializers.zeros_init()
        hidden = self._weight(f"{name}_hidden", normal, (d, f), "code", "mlp")
        outer = self._weight(f"{name}_outer", zeros, (f, self.width), "mlp", "embed")
        return GAIN * (nn.gelu(vectors @ hidden) @ outer)

    def _weight(
        self, name: str, init: Initializer, shape: tuple[int, ...], *axes: str | None
    ) -> Array:
        return self.param(name, named(init, *axes), shape, jnp.float32)


def adopt(tables: Params, vectors: Float[Array, "v d"]) -> Params:
    """The parameters with the codec's code vectors in them, centred and scaled to a variance of
    1.
    """
    centred = vectors - jnp.mean(vectors, 0)
    return {**tables, "vectors": centred / jnp.maximum(jnp.std(centred), 1e-6)}
