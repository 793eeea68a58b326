"""What no gradient does to a codebook: usage counts, the bank of recent latents, k-means, revival
of dead codes.

Separate from the quantizers because it is the same for all of them, and because it happens after
the optimizer's update. All pure functions of (parameters, statistics, key), so they run inside the
jitted step and a resumed run repeats them bit for bit.

Both k-means seeds and revived codes are drawn with probability proportional to the squared distance
to the nearest code (k-means++): what is already represented exactly, such as a plain background, is
never given a second code."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vilg.codecs.quantize import squared_distances

CHUNK = 2048  # points whose distances to every code are in memory at once
NEVER = 1 << 30  # idle time of a code that has not been used yet


def statistics(vocabulary: int, width: int, bank: int) -> dict[str, Array]:
    """usage: moving average of each code's share; idle: updates since it was last used; bank:
    recent latents, newest first; filled: how many of them are real; seeded: whether k-means has
    placed the codes; revived: how many codes were moved so far."""
    return {
        "usage": jnp.zeros(vocabulary, jnp.float32),
        "idle": jnp.full(vocabulary, NEVER, jnp.int32),
        "bank": jnp.zeros((bank, width), jnp.float32),
        "filled": jnp.int32(0),
        "seeded": jnp.bool_(False),
        "revived": jnp.int32(0),
    }


def count(old: dict[str, Array], counts: Float[Array, " v"], window: int) -> dict[str, Array]:
    """Usage and idle time after an update that saw these counts; the average's memory is `window`
    updates.
    """
    total = jnp.sum(counts)
    share = counts / jnp.maximum(total, 1.0)
    usage = jnp.where(total > 0, old["usage"] + (share - old["usage"]) / window, old["usage"])
    waited = jnp.where(counts > 0, 0, jnp.minimum(old["idle"] + 1, NEVER))
    return {**old, "usage": usage, "idle": jnp.where(total > 0, waited, old["idle"])}


def remember(old: dict[str, Array], latents: Float[Array, "n d"]) -> dict[str, Array]:
    """The bank with new latents in front; where they are more than it holds, an even selection of
    them.
    """
    size = old["bank"].shape[0]
    if latents.shape[0] > size:
        latents = latents[jnp.arange(size) * latents.shape[0] // size]
    bank = jnp.concatenate([latents, old["bank"]])[:size]
    return {**old, "bank": bank, "filled": jnp.minimum(old["filled"] + latents.shape[0], size)}


def assign(
    points: Float[Array, "n d"], centres: Float[Array, "k d"]
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """The nearest centre of each point and the squared distance to it, CHUNK points at a time."""

    def some(block: Float[Array, "m d"]) -> tuple[Array, Array]:
        ids = jnp.argmin(squared_distances(block, centres), axis=-1).astype(jnp.int32)
        return ids, jnp.sum(jnp.square(block - centres[ids]), axis=-1)

    return jax.lax.map(
        lambda p: jax.tree.map(lambda a: a[0], some(p[None])), points, batch_size=CHUNK
    )


def draw_index(
    mass: Float[Array, " n"], key: Array, shape: tuple[int, ...] = ()
) -> Int[Array, "..."]:
    """Indices drawn with probability proportional to `mass`."""
    total = jnp.cumsum(mass)
    found = jnp.searchsorted(total, jax.random.uniform(key, shape) * total[-1], side="right")
    return jnp.minimum(found, mass.shape[0] - 1)


def spread_seeds(
    points: Float[Array, "n d"], real: Bool[Array, " n"], number: int, key: Array
) -> Float[Array, "k d"]:
    """k-means++: `number` of the points, each drawn with probability ~ squared distance to those
    before; `real` [n] masks the points.

    When every real point is a seed already, the remaining seeds repeat points, and stay unused
    until they are revived."""
    first, key = jax.random.split(key)

    def draw(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        seeds, distance = state
        left = jnp.where(real, distance, 0.0)
        left = jnp.where(jnp.sum(left) > 0, left, real.astype(jnp.float32))
        seed = points[draw_index(left, jax.random.fold_in(key, i))]
        return seeds.at[i].set(seed), jnp.minimum(
            distance, jnp.sum(jnp.square(points - seed), axis=-1)
        )

    start = points[draw_index(real.astype(jnp.float32), first)]
    seeds = jnp.zeros((number, points.shape[1]), points.dtype).at[0].set(start)
    return jax.lax.fori_loop(
        1, number, draw, (seeds, jnp.sum(jnp.square(points - start), axis=-1))
    )[0]


def kmeans(
    points: Float[Array, "n d"],
    real: Bool[Array, " n"],
    number: int,
    rounds: int,
    key: Array,
) -> tuple[Float[Array, "k d"], Float[Array, ""]]:
    """Centres after `rounds` of Lloyd's algorithm from k-means++ seeds, and the mean squared
    distance to them; an empty centre stays.
    """
    weight = real.astype(jnp.float32)

    def step(_: Array, centres: Array) -> Array:
        ids, _ = assign(points, centres)
        sums = jnp.zeros_like(centres).at[ids].add(points * weight[:, None])
        mass = jnp.zeros(number).at[ids].add(weight)
        return jnp.where(mass[:, None] > 0, sums / jnp.maximum(mass, 1.0)[:, None], centres)

    centres = jax.lax.fori_loop(0, rounds, step, spread_seeds(points, real, number, key))
    _, distance = assign(points, centres)
    return centres, jnp.sum(distance * weight) / jnp.maximum(jnp.sum(weight), 1.0)


def revival_sites(
    old: dict[str, Array],
    embeddings: Float[Array, "v d"],
    decide: Callable[[Array], Array],
    key: Array,
) -> Float[Array, "v d"]:
    """For every code a latent of the bank to move to if it is dead, drawn ~ squared distance to the
    embedding it is quantized to.

    `decide` maps latents to codes (the quantizer's own rule).
    """
    ids = jax.lax.map(lambda p: decide(p[None])[0], old["bank"], batch_size=CHUNK)
    distance = jnp.sum(jnp.square(old["bank"] - embeddings[ids]), axis=-1)
    mass = jnp.where(jnp.arange(old["bank"].shape[0]) < old["filled"], distance, 0.0)
    return old["bank"][draw_index(mass, key, (embeddings.shape[0],))]
