"""The updates of a codebook that no gradient makes: usage counts, the bank of recent latents,
k-means, and the revival of dead codes.

Separate from the quantizers because these updates are the same for all of them, and because they
happen after the optimizer's. All are pure functions of (parameters, statistics, key), so they run
inside the jitted step, and a resumed run repeats them bit for bit.

The seeds of k-means and the places of revived codes are both drawn with probability proportional to
the squared distance to the nearest code (k-means++). A latent that a code represents exactly, such
as that of a plain background, never gets a second code.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vilg.codecs.quantize import squared_distances

CHUNK = 2048  # points whose distances to every code are in memory at once
NEVER = 1 << 30  # idle time of a code that has not been used yet
Statistics = dict[str, Array]


def init_statistics(vocabulary: int, width: int, bank: int) -> Statistics:
    """The state of a codebook beside its parameters.

    usage [v]: moving average of each code's share. idle [v]: updates since a code was last used.
    bank [n, d]: recent latents, newest first, of which the first `filled` are real. seeded: whether
    k-means has placed the codes. revived: how many codes have been moved.
    """
    return {
        "usage": jnp.zeros(vocabulary, jnp.float32),
        "idle": jnp.full(vocabulary, NEVER, jnp.int32),
        "bank": jnp.zeros((bank, width), jnp.float32),
        "filled": jnp.int32(0),
        "seeded": jnp.bool_(False),
        "revived": jnp.int32(0),
    }


def count_usage(statistics: Statistics, counts: Float[Array, " v"], window: int) -> Statistics:
    """Usage and idle time after an update that saw these counts; `window` is the memory of the
    moving average in updates.
    """
    usage, idle, total = statistics["usage"], statistics["idle"], jnp.sum(counts)
    share = counts / jnp.maximum(total, 1.0)
    usage = jnp.where(total > 0, usage + (share - usage) / window, usage)
    waited = jnp.where(counts > 0, 0, jnp.minimum(idle + 1, NEVER))
    return {**statistics, "usage": usage, "idle": jnp.where(total > 0, waited, idle)}


def add_to_bank(statistics: Statistics, latents: Float[Array, "n d"]) -> Statistics:
    """The bank with new latents in front; where they are more than it holds, an even selection of
    them.
    """
    bank = statistics["bank"]
    size = bank.shape[0]
    if latents.shape[0] > size:
        latents = latents[jnp.arange(size) * latents.shape[0] // size]
    bank = jnp.concatenate([latents, bank])[:size]
    filled = jnp.minimum(statistics["filled"] + latents.shape[0], size)
    return {**statistics, "bank": bank, "filled": filled}


def assign(
    points: Float[Array, "n d"], centres: Float[Array, "k d"]
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """The nearest centre of each point and the squared distance to it, CHUNK points at a time."""

    def assign_chunk(block: Float[Array, "m d"]) -> tuple[Array, Array]:
        ids = jnp.argmin(squared_distances(block, centres), axis=-1).astype(jnp.int32)
        return ids, jnp.sum(jnp.square(block - centres[ids]), axis=-1)

    return jax.lax.map(
        lambda p: jax.tree.map(lambda a: a[0], assign_chunk(p[None])), points, batch_size=CHUNK
    )


def sample_indices(
    mass: Float[Array, " n"], key: Array, shape: tuple[int, ...] = ()
) -> Int[Array, "..."]:
    """Indices drawn with probability proportional to `mass`."""
    total = jnp.cumsum(mass)
    drawn = jnp.searchsorted(total, jax.random.uniform(key, shape) * total[-1], side="right")
    return jnp.minimum(drawn, mass.shape[0] - 1)


def kmeans_plus_plus(
    points: Float[Array, "n d"], real: Bool[Array, " n"], number: int, key: Array
) -> Float[Array, "k d"]:
    """The seeds of k-means++: `number` of the points that are `real`, each drawn with probability
    proportional to the squared distance to the nearest seed before it.

    When every real point is a seed, the remaining seeds repeat points, and stay unused until they
    are revived.
    """
    start_key, key = jax.random.split(key)

    def draw(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        seeds, distance = state
        mass = jnp.where(real, distance, 0.0)
        mass = jnp.where(jnp.sum(mass) > 0, mass, real.astype(jnp.float32))
        seed = points[sample_indices(mass, jax.random.fold_in(key, i))]
        seeds = seeds.at[i].set(seed)
        return seeds, jnp.minimum(distance, jnp.sum(jnp.square(points - seed), axis=-1))

    start = points[sample_indices(real.astype(jnp.float32), start_key)]
    seeds = jnp.zeros((number, points.shape[1]), points.dtype).at[0].set(start)
    distance = jnp.sum(jnp.square(points - start), axis=-1)
    return jax.lax.fori_loop(1, number, draw, (seeds, distance))[0]


def kmeans(
    points: Float[Array, "n d"],
    real: Bool[Array, " n"],
    number: int,
    rounds: int,
    key: Array,
) -> tuple[Float[Array, "k d"], Float[Array, ""]]:
    """The centres after `rounds` rounds of Lloyd's algorithm from k-means++ seeds, and the mean
    squared distance to them. A centre without points stays where it is.
    """
    weight = real.astype(jnp.float32)

    def step(_: Array, centres: Array) -> Array:
        ids, _ = assign(points, centres)
        sums = jnp.zeros_like(centres).at[ids].add(points * weight[:, None])
        mass = jnp.zeros(number).at[ids].add(weight)
        return jnp.where(mass[:, None] > 0, sums / jnp.maximum(mass, 1.0)[:, None], centres)

    centres = jax.lax.fori_loop(0, rounds, step, kmeans_plus_plus(points, real, number, key))
    _, distance = assign(points, centres)
    return centres, jnp.sum(distance * weight) / jnp.maximum(jnp.sum(weight), 1.0)


def revival_targets(
    statistics: Statistics,
    embeddings: Float[Array, "v d"],
    quantize: Callable[[Array], Array],
    key: Array,
) -> Float[Array, "v d"]:
    """For every code a latent of the bank to which it moves if it is dead, drawn with probability
    proportional to the squared distance to the embedding that the latent is quantized to.

    `quantize` maps latents to codes by the quantizer's own rule.
    """
    bank = statistics["bank"]
    ids = jax.lax.map(lambda p: quantize(p[None])[0], bank, batch_size=CHUNK)
    distance = jnp.sum(jnp.square(bank - embeddings[ids]), axis=-1)
    mass = jnp.where(jnp.arange(bank.shape[0]) < statistics["filled"], distance, 0.0)
    return bank[sample_indices(mass, key, (embeddings.shape[0],))]
