"""Random keys of rows, each from a seed and the row's own content, so that no row depends on the
other rows of its batch."""

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vilg.config import require


def sample_keys(seeds: Sequence[int], contents: Sequence[bytes]) -> np.ndarray:
    """The data [n, 2] of random keys, a key for each pair of a seed and the content (prompt or
    codes) from which is sampled. Errors: UserError for a seed of more than 32 bits.
    """
    require(
        0 <= min(seeds) and max(seeds) < 2**32,
        "seed",
        max(seeds) if min(seeds) >= 0 else min(seeds),
        "must be from 0 to 2**32 - 1",
    )
    numbers = np.array(
        [[s, zlib.crc32(c)] for s, c in zip(seeds, contents, strict=True)], np.uint32
    )
    keys = jax.vmap(
        lambda n: jax.random.fold_in(jax.random.fold_in(jax.random.key(n[0]), n[1]), 0)
    )(jnp.asarray(numbers))
    return np.asarray(jax.random.key_data(keys))
