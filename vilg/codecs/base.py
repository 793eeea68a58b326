"""Functions of every codec: the scale of pixels, PSNR, counts of codes, and the check that a codec
is good enough to train a generator on.

Separate because none of them depends on how a codec is built. The scores that `check_floors` reads
are measured by evals/reconstruction.py.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from vilg.types import UserError


def to_unit(images: UInt8[Array, "b H W 3"]) -> Float[Array, "b H W 3"]:
    """Bytes as float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def to_bytes(images: Float[Array, "b H W 3"]) -> UInt8[Array, "b H W 3"]:
    """Images in [-1, 1] as rounded bytes; values outside are clipped."""
    return jnp.round((jnp.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)


def psnr(mean_squared_error: Array) -> Array:
    """Peak signal-to-noise ratio in dB of an error measured on the [-1, 1] scale (peak 2)."""
    return 10.0 * jnp.log10(4.0 / jnp.maximum(mean_squared_error, 1e-10))


def perplexity(counts: Float[Array, " v"]) -> Float[Array, ""]:
    """exp(entropy) of the distribution that is proportional to `counts`: the effective number of
    codes in use.
    """
    p = counts / jnp.maximum(jnp.sum(counts), 1e-20)
    return jnp.exp(-jnp.sum(p * jnp.log(p + 1e-20)))


def count_codes(codes: Int[Array, "..."], vocabulary: int) -> Float[Array, " v"]:
    """How often each code occurs."""
    return jnp.zeros(vocabulary, jnp.float32).at[codes.reshape(-1)].add(1.0)


def check_floors(scores: Mapping[str, float], floors: Mapping[str, float]) -> None:
    """Raises a UserError unless each score that has a floor reaches it: no generator is trained on
    a codec that is not good enough.
    """
    for name, floor in floors.items():
        if name not in scores:
            raise UserError(
                f"codec.floors.{name}={floor!r}: unknown figure; this codec and data have"
                f" {', '.join(scores) or 'none'}"
            )
        if not scores[name] >= floor:
            raise UserError(
                f"codec.floors.{name}={floor!r}: the codec reaches {scores[name]:.4f}, too little"
                " to train a generator on; train the codec longer, or lower the floor knowingly"
            )
