"""Cached decoding against uncached attention at every position, what it reads, and that no step
copies a cache.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn import pattern_oracle
from tests.nn.streams import TEXT, arrays, geometry, quick_jit
from vilg.nn.attention import attend
from vilg.nn.decode_attention import decode_step, init_cache, prefill
from vilg.nn.geometry import DIRECTIONS
from vilg.types import UserError


def split(x, direction):
    """(source, target) of an array over [text ; image]."""
    return (
        (x[:, :TEXT], x[:, TEXT:]) if direction == "text_to_image" else (x[:, TEXT:], x[:, :TEXT])
    )


def decode(q, k, v, known, where, dtype=jnp.float32):
    """Outputs [b, t, h, k] at target positions known.. by cached steps, the first `known`
    prefilled.
    """
    (source_k, target_k), (source_v, target_v), (_, target_q) = (
        split(x, where.direction) for x in (k, v, q)
    )
    cache = init_cache(where, q.shape[0], q.shape[2], q.shape[3], dtype)
    targets = (target_k[:, :known], target_v[:, :known]) if known else ()
    cache = prefill(cache, where, source_k, source_v, *targets)

    def body(cache, position):
        one = [
            jax.lax.dynamic_slice_in_dim(x, position, 1, axis=1)
            for x in (target_q, target_k, target_v)
        ]
        out, cache = decode_step(cache, where, *one, position)
        return cache, out[:, 0]

    _, outs = jax.lax.scan(body, cache, jnp.arange(known, target_q.shape[1]))
    return outs.swapaxes(0, 1)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (4, 6)])
@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS)
def test_cached_is_uncached(variant, grid, direction):
    """Every position to 1e-4 in f32; on the 4 x 6 grid two target positions are prefilled."""
    where = geometry(variant, grid, direction)
    q, k, v = arrays(grid)
    known = 2 if grid == (4, 6) else 0

    def both(q, k, v):
        whole = split(attend(q, k, v, where, "dense"), direction)[1]
        return decode(q, k, v, known, where), whole[:, known:]

    np.testing.assert_allclose(*quick_jit(both)(q, k, v), atol=1e-4)


def test_bfloat16_cache():
    where = geometry(pattern_oracle.VARIANTS[3], (4, 4), "text_to_image")
    q, k, v = arrays((4, 4))
    whole = split(quick_jit(lambda *a: attend(*a, where))(q, k, v), "text_to_image")[1]
    cached = quick_jit(lambda *a: decode(*a, 0, where, dtype=jnp.bfloat16))(q, k, v)
    assert cached.dtype == jnp.float32
    np.testing.assert_allclose(cached, whole, atol=0.05)


@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS[1:])
def test_reads_contiguous_slices_of_what_is_visible(variant):
    """No gather, and every product with the 32 x 32 image's keys has at most the pattern's window
    of them.
    """
    where = geometry(variant, (32, 32), "text_to_image")
    cache = init_cache(where, 2, 2, 4)
    one = jnp.zeros((2, 1, 2, 4))
    jaxpr = jax.make_jaxpr(
        lambda cache, one, position: decode_step(cache, where, one, one, one, position)
    )(cache, one, 5)
    assert "gather" not in str(jaxpr)
    keys = [
        x.aval.shape[2]
        for e in jaxpr.jaxpr.eqns
        if e.primitive.name == "dot_general"
        for x in e.invars
        if x.aval.ndim == 4
    ]
    window = {"row": 32, "column": 32, "convolution": 60}[variant[0]]
    assert keys and max(keys) <= window


@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS)
def test_what_is_not_visible_does_not_matter(variant):
    """Later and unseen positions of the cache may hold anything finite."""
    grid, index = (8, 8), 43
    where = geometry(variant, grid, "text_to_image")
    q, k, v = arrays(grid)
    seen = sorted(pattern_oracle.seen_by_image(*variant, "text_to_image", index, grid))
    hidden = np.setdiff1d(np.arange(64), seen)
    noise = np.zeros((64, 1, 1), np.float32)
    noise[hidden] = 1e3

    @quick_jit
    def step(q, k, v, noise):
        image_k, image_v = k[:, TEXT:] + noise, v[:, TEXT:] + noise
        cache = init_cache(where, 2, 2, 4)
        cache = prefill(cache, where, k[:, :TEXT], v[:, :TEXT], image_k, image_v)
        one = [x[:, TEXT + index : TEXT + index + 1] for x in (q, k, v)]
        return decode_step(cache, where, *one, index)[0]

    np.testing.assert_array_equal(step(q, k, v, noise), step(q, k, v, 0 * noise))


@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS)
@pytest.mark.parametrize("batch", [1, 2])
def test_no_step_copies_a_cache(variant, batch):
    """With donated caches the compiled loop holds no copy of an image cache (the reason for the
    write's dependence on the reads).
    """
    where = geometry(variant, (16, 16), "text_to_image")
    cache = init_cache(where, batch, 2, 8)

    def loop(cache, q):
        def body(i, carry):
            cache, q = carry
            out, cache = decode_step(cache, where, q, q, q, i + 5)
            return cache, q + out

        return jax.lax.fori_loop(0, 9, body, (cache, q))

    text = (
        jax.jit(loop, donate_argnums=0).lower(cache, jnp.ones((batch, 1, 2, 8))).compile().as_text()
    )
    shapes = re.findall(r"= f32\[([\d,]+)\]\S* copy\(", text)
    assert not [
        shape
        for shape in shapes
        if np.prod([int(s) for s in shape.split(",")]) >= batch * 2 * 256 * 8
    ]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda cache, x, where: prefill(cache, where, x, x),
            "the text segment has 3 positions, got 1",
        ),
        (
            lambda cache, x, where: decode_step(
                cache, dataclasses.replace(where, grid=(4, 5)), x, x, x, 0
            ),
            r"the cache holds \(3, 16\)",
        ),
    ],
)
def test_mistakes_are_named(call, said):
    where = geometry(pattern_oracle.VARIANTS[1], (4, 4), "text_to_image")
    with pytest.raises(UserError, match=said):
        call(init_cache(where, 1, 2, 4), jnp.zeros((1, 1, 2, 4)), where)
