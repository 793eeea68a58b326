"""What moves codes without a gradient: counts, the bank, k-means++, revival, and VQ.after_update
that calls them at their steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vilg.codecs import CODECS, codebook
from vilg.config import build

KEY = jax.random.key(0)
kmeans = jax.jit(codebook.kmeans, static_argnums=(2, 3))
kmeans_plus_plus = jax.jit(codebook.kmeans_plus_plus, static_argnums=2)


def small(kind="nearest", **more):
    section = {
        "image_size": 16,
        "vocabulary": 8,
        "code_width": 2,
        "bank": 32,
        "quantizer": {"name": kind},
        **more,
    }
    return build(CODECS["vq"], section, "codec")


def started(codec):
    return nn.meta.unbox(codec.init(KEY)), codec.init_statistics()


def observed(latents, counts):
    return {
        "latents": jnp.asarray(latents, jnp.float32)[None],
        "counts": jnp.asarray(counts, jnp.float32)[None],
    }


def blobs(n=4, each=8, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[10.0 * i, -7.0 * i] for i in range(n)], np.float32)
    points = np.repeat(centres, each, 0) + 0.01 * rng.normal(size=(n * each, 2)).astype(np.float32)
    return centres, points[rng.permutation(len(points))]


def test_counts_idle_times_and_usage_follow_the_updates():
    state = codebook.init_statistics(3, 2, 4)
    for counts in ([4, 0, 0], [0, 4, 0], [4, 0, 0]):
        state = codebook.count_usage(state, jnp.asarray(counts, jnp.float32), 2)
    np.testing.assert_allclose(state["usage"], [0.625, 0.25, 0.0])
    assert state["idle"][0] == 0 and state["idle"][1] == 1 and state["idle"][2] >= codebook.NEVER
    same = codebook.count_usage(state, jnp.zeros(3), 2)  # nothing quantized: nothing known
    assert all(np.array_equal(same[k], state[k]) for k in ("usage", "idle"))


def test_the_bank_holds_the_newest_latents_first():
    state = codebook.init_statistics(3, 1, 4)
    state = codebook.add_to_bank(state, jnp.asarray([[1.0], [2.0], [3.0]]))
    assert state["filled"] == 3
    state = codebook.add_to_bank(state, jnp.asarray([[4.0], [5.0]]))
    assert state["filled"] == 4 and state["bank"].ravel().tolist() == [4, 5, 1, 2]
    state = codebook.add_to_bank(state, jnp.arange(8.0)[:, None])
    assert state["bank"].ravel().tolist() == [0, 2, 4, 6]  # an even selection


def test_seeds_cover_all_distinct_points_before_any_twice():
    distinct = np.array([[0, 0], [1, 0], [0, 3], [5, 5]], np.float32)
    points = np.concatenate(
        [np.repeat(distinct[:1], 96, 0), distinct[1:], np.full((4, 2), 99.0, np.float32)]
    )
    real = jnp.arange(len(points)) < 99
    for seed in range(5):
        seeds = np.asarray(kmeans_plus_plus(jnp.asarray(points), real, 6, jax.random.key(seed)))
        assert {tuple(s) for s in seeds[:4]} == {tuple(d) for d in distinct}, (
            "the background was seeded twice"
        )
        assert 99.0 not in seeds


def test_kmeans_finds_the_blobs_and_ignores_what_is_not_real():
    centres, points = blobs()
    padded = jnp.asarray(np.concatenate([points, np.full((16, 2), 500.0, np.float32)]))
    found, spread = kmeans(padded, jnp.arange(48) < 32, 4, 5, KEY)
    gaps = np.linalg.norm(np.asarray(found)[:, None] - centres, axis=-1)
    assert (gaps.min(0) < 0.02).all() and 0 < spread < 1e-3


def test_kmeans_lowers_the_error_of_its_seeds():
    points = jnp.asarray(np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32))
    errors = [float(kmeans(points, jnp.ones(500, bool), 16, rounds, KEY)[1]) for rounds in (0, 2)]
    assert errors[0] > 1.1 * errors[1]


def test_assign_is_the_same_in_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    points, centres = (
        rng.normal(size=(100, 3)).astype(np.float32),
        rng.normal(size=(7, 3)).astype(np.float32),
    )
    expected = ((points[:, None] - centres) ** 2).sum(-1)
    monkeypatch.setattr(codebook, "CHUNK", 16)
    ids, distance = codebook.assign(jnp.asarray(points), jnp.asarray(centres))
    assert (np.asarray(ids) == expected.argmin(-1)).all()
    np.testing.assert_allclose(distance, expected.min(-1), rtol=1e-4)


@pytest.mark.parametrize("kind", ["nearest", "gumbel"])
def test_maintain_places_the_codes_when_the_warmup_ends_and_only_then(kind):
    codec = small(kind, autoencoder_warmup=3)
    params, state = started(codec)
    maintain = jax.jit(codec.after_update)
    centres, points = blobs()
    first = params["quantizer"]["codebook"]
    for step in range(5):
        params, state, _ = maintain(
            params, state, observed(points, np.zeros(8)), jax.random.key(step), jnp.int32(step)
        )
        moved = not np.array_equal(params["quantizer"]["codebook"], first)
        assert moved == (step >= 2) == bool(state["seeded"])
        if step == 2:
            placed = np.asarray(params["quantizer"]["codebook"])
            assert (np.linalg.norm(placed[:, None] - centres, axis=-1).min(0) < 0.05).all()
    np.testing.assert_array_equal(params["quantizer"]["codebook"], placed)


def test_dead_codes_move_to_where_the_error_is_and_used_ones_stay():
    codec = small(revive_after=2)
    params, state = started(codec)
    maintain = jax.jit(codec.after_update)
    near = np.full(
        (31, 2), 7.0, np.float32
    )  # a background that code 0 represents exactly, and one latent far away
    params["quantizer"]["codebook"] = jnp.full((8, 2), 50.0).at[0].set(7.0).at[1].set(-50.0)
    latents = np.concatenate([near, [[3.0, 4.0]]])
    counts = [31, 1, 0, 0, 0, 0, 0, 0]
    before = params["quantizer"]["codebook"]
    params, state, metrics = maintain(params, state, observed(latents, counts), KEY, jnp.int32(0))
    np.testing.assert_array_equal(params["quantizer"]["codebook"], before)  # not due yet
    assert metrics["revived"] == 0 and metrics["codebook_usage"] == 0.25
    params, state, metrics = maintain(params, state, observed(latents, counts), KEY, jnp.int32(1))
    book = np.asarray(params["quantizer"]["codebook"])
    np.testing.assert_array_equal(book[:2], before[:2])
    np.testing.assert_array_equal(book[2:], np.tile([3.0, 4.0], (6, 1)))
    assert metrics["revived"] == 6 and metrics["codebook_usage"] == 0.25


def test_a_code_is_revived_only_after_it_was_idle_long_enough():
    codec = small(revive_after=4, bank=8)
    params, state = started(codec)
    maintain = jax.jit(codec.after_update)
    latents = np.random.default_rng(0).normal(size=(8, 2))
    for step in range(
        8
    ):  # code 7 was used at step 4: at step 7, the next revival, it has been idle for three updates
        counts = [1] * 7 + [int(step in (0, 4))]
        book = params["quantizer"]["codebook"]
        params, state, metrics = maintain(
            params, state, observed(latents, counts), jax.random.key(step), jnp.int32(step)
        )
    np.testing.assert_array_equal(params["quantizer"]["codebook"], book)
    assert metrics["revived"] == 0


def test_revival_counts_from_the_end_of_the_warmup():
    codec = small(autoencoder_warmup=3, revive_after=2)
    params, state = started(codec)
    maintain = jax.jit(codec.after_update)
    latents = np.random.default_rng(0).normal(size=(32, 2))
    revived = []
    for step in range(6):
        counts = np.zeros(8) if step < 3 else [1, 1, 0, 0, 0, 0, 0, 0]
        params, state, metrics = maintain(
            params, state, observed(latents, counts), jax.random.key(step), jnp.int32(step)
        )
        revived.append(int(metrics["revived"]))
    assert revived == [0, 0, 0, 0, 6, 6]


def test_maintain_is_a_function_of_its_arguments_and_of_all_microbatches():
    codec = small(autoencoder_warmup=1, revive_after=1)
    params, state = started(codec)
    maintain = jax.jit(codec.after_update)
    rng = np.random.default_rng(0)
    latents, counts = (
        rng.normal(size=(2, 16, 2)).astype(np.float32),
        rng.integers(0, 3, (2, 8)).astype(np.float32),
    )
    two = {"latents": jnp.asarray(latents), "counts": jnp.asarray(counts)}
    one = {
        "latents": jnp.asarray(latents.reshape(1, 32, 2)),
        "counts": jnp.asarray(counts.sum(0)[None]),
    }
    results = [maintain(params, state, seen, KEY, jnp.int32(0)) for seen in (two, one, two)]
    for other in results[1:]:
        assert all(
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(results[0]), jax.tree.leaves(other), strict=True)
        )
    restored = jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x)), results[0][:2]
    )  # what a checkpoint does to them
    a, b = (
        maintain(*results[0][:2], two, KEY, jnp.int32(1)),
        maintain(*restored, two, KEY, jnp.int32(1)),
    )
    assert all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_perplexity_and_usage_are_reported():
    codec = small(usage_window=2)
    params, state = started(codec)
    maintain = jax.jit(codec.after_update)
    for step, counts in enumerate([[1] * 8, [5, 5, 0, 0, 0, 0, 0, 0], [5, 5, 0, 0, 0, 0, 0, 0]]):
        params, state, metrics = maintain(
            params, state, observed(np.zeros((4, 2)), counts), KEY, jnp.int32(step)
        )
    assert metrics["codebook_usage"] == 0.25
    p = np.asarray(state["usage"]) / np.asarray(state["usage"]).sum()
    assert float(metrics["perplexity"]) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
