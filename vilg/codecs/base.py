"""What every codec shares: pixel scale, PSNR, the survey of a codec on an evaluation set, and the gate before a generator.

Separate because none of it depends on how a codec is built. Scoring reconstructions needs the data set's scorer, which is a higher
layer: evals adds that number to the scores that `gate` reads.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from vilg.types import Codec, Params, UserError


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
    """exp(entropy) of the distribution that is proportional to `counts`: how many codes are in use, in effect."""
    p = counts / jnp.maximum(jnp.sum(counts), 1e-20)
    return jnp.exp(-jnp.sum(p * jnp.log(p + 1e-20)))


def count_codes(codes: Int[Array, "..."], vocabulary: int) -> Float[Array, " v"]:
    """How often each code occurs."""
    return jnp.zeros(vocabulary, jnp.float32).at[codes.reshape(-1)].add(1.0)


def survey(codec: Codec, params: Params, images: UInt8[Array, "b H W 3"]) -> dict[str, Array]:
    """Sums over one batch of an evaluation set, for `summarize`: code counts [v], squared error, number of values, images, codes.

    "reconstructions" (bytes) and "codes" are there for a scorer to read.
    """
    target = to_unit(images)
    codes = codec.encode(params, target)
    decoded = codec.decode(params, codes)
    return {
        "counts": count_codes(codes, codec.vocabulary),
        "squared_error": jnp.sum(jnp.square(decoded - target)),
        "values": jnp.float32(target.size),
        "reconstructions": to_bytes(decoded),
        "codes": codes,
    }


def summarize(surveys: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """psnr (dB, of the error averaged over the whole set), codebook_usage (fraction of codes seen at least once), perplexity."""
    counts = sum(np.asarray(s["counts"], np.float64) for s in surveys)
    error = sum(float(s["squared_error"]) for s in surveys) / sum(float(s["values"]) for s in surveys)
    return {
        "psnr": float(psnr(jnp.float32(error))),
        "codebook_usage": float(np.mean(counts > 0)),
        "perplexity": float(perplexity(jnp.asarray(counts, jnp.float32))),
    }


def gate(scores: Mapping[str, float], floors: Mapping[str, float]) -> None:
    """Raises a UserError unless each score that has a floor reaches it: no generator is trained on a codec that is not good enough."""
    for name, floor in floors.items():
        if name not in scores:
            raise UserError(f"codec floor {name}={floor!r}: the codec has no such score; it has {', '.join(scores)}")
        if not scores[name] >= floor:
            raise UserError(
                f"codec {name}={scores[name]:.4g} is below the floor {floor:.4g}: train the codec longer, or lower the floor in the config"
            )
