"""The trunk: grouping of layers, cached decoding, scan against unrolled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.streams import equations
from vilg.generators.autoregressive import Autoregressive
from vilg.nn.layer_patterns import schedule
from vilg.nn.trunk import split_layers, unrolled
from vilg.parallel.constrain import placing
from vilg.parallel.layouts import parse_layout
from vilg.parallel.mesh import make_mesh, resolver
from vilg.program import unbox

PATTERNS = ("dense", "ernie_vilg", ("convolution", "row", "column"))


def made(patterns, **options):
    layers = len(patterns) if isinstance(patterns, tuple) else 6
    fields = dict(
        image_vocabulary=32,
        grid=(4, 6),
        text_vocabulary=64,
        text_length=6,
        width=32,
        heads=2,
        convolution=3,
        embed_scale=1.0,
    )
    generator = Autoregressive(**(fields | dict(layers=layers, patterns=patterns) | options))
    return generator, unbox(jax.jit(generator.init)(jax.random.key(0)))


def apply(generator, params, *arguments, method="__call__"):
    return jax.jit(lambda p, *a: generator.network.apply({"params": p}, *a, method=method))(
        params, *arguments
    )


def inputs(n: int = 24):
    rng = np.random.default_rng(0)
    return rng.integers(5, 60, (2, 6)).astype(np.int32), rng.integers(0, 32, (2, n)).astype(
        np.int32
    )


def test_schedules_split_into_a_repeated_unit_and_a_tail():
    for layers in (1, 2, 4, 5, 24, 48):
        patterns = schedule("ernie_vilg", layers)
        unit, repeats, tail = split_layers(patterns)
        assert unit * repeats + tail == patterns
    assert split_layers(schedule("ernie_vilg", 48)) == (
        ("row", "column", "row", "row"),
        11,
        ("row", "column", "row", "convolution"),
    )
    assert split_layers(("dense",) * 24) == (("dense",), 24, ())


@pytest.mark.parametrize(
    ("patterns", "windows"),
    [*((p, {}) for p in PATTERNS), ("dense", dict(text_window=3, image_window=2))],
)
def test_cached_decoding_equals_the_whole_stream(patterns, windows):
    """Whatever stands after the position is not read."""
    generator, params = made(patterns, **windows)
    text, codes = inputs()

    def stepwise(method, tokens, caches, other):
        step = jax.jit(
            lambda t, caches, k: generator.network.apply(
                {"params": params}, t, caches, k, method=method
            )
        )
        for k in range(tokens.shape[1] - 1):
            logits, caches = step(
                np.where(np.arange(tokens.shape[1]) <= k, tokens, other), caches, jnp.int32(k)
            )
            yield logits

    whole = apply(generator, params, text, codes, method="image_given_text")
    first, caches = apply(generator, params, text, method="read_text")
    np.testing.assert_allclose(
        jnp.stack([first, *stepwise("next_code", codes, caches, 31)], 1), whole, atol=1e-4
    )
    whole = apply(generator, params, text, codes, method="text_given_image")
    caches = apply(generator, params, codes, method="read_image")
    np.testing.assert_allclose(
        jnp.stack([*stepwise("next_text", text, caches, 63)], 1), whole, atol=1e-4
    )


def test_scanned_layers_compute_what_unrolled_layers_compute():
    generator, params = made("ernie_vilg")
    plain, _ = made("ernie_vilg", scan=False)
    other = {**params, "trunk": unrolled(params["trunk"])}
    for a, b in zip(
        apply(generator, params, *inputs()), apply(plain, other, *inputs()), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_causality_by_gradients():
    """Logits of code k move with codes before k and all text, and with nothing after; captions
    likewise.
    """
    generator, params = made("dense")
    text, codes = (jnp.asarray(x) for x in inputs())
    soft = jax.nn.one_hot(codes, 32)

    def logits(soft_codes, k):
        table = params["embed"]["image_table"]
        shifted = {**params, "embed": {**params["embed"], "image_table": jnp.eye(32) @ table}}
        embedded = soft_codes @ table
        model = generator.network
        x = model.bind({"params": shifted})
        stream = jnp.concatenate(
            [
                x.embed.text(text, "text_to_image"),
                embedded + x.embed.image(codes, "text_to_image") - table[codes],
            ],
            1,
        )
        states = x.trunk.full(stream, "text_to_image")
        return x.image_logits(states[:, generator.text_length - 1 : -1])[:, k].sum()

    gradient = jax.jit(jax.grad(logits))
    for k in (0, 5, 23):
        moved = np.abs(np.asarray(gradient(soft, k))).sum(-1)
        assert (moved[:, k:] == 0).all()
        assert (moved[:, :k] > 0).all()


def test_bfloat16_keeps_parameters_in_float32_and_stays_close():
    generator, params = made("dense")
    half, _ = made("dense", dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    a = apply(generator, params, *inputs())[0]
    b = apply(half, params, *inputs())[0]
    assert b.dtype == jnp.float32
    assert float(jnp.abs(a - b).max()) < 0.1 * float(jnp.abs(a).max())


@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_column_layer_turned_around_for_its_kernel_is_the_same_layer(qk_norm):
    """Values and gradients of a whole model with rotary places, which must turn with the
    positions.
    """
    generator, params = made(("column", "row"), rotary_base=100.0, qk_norm=qk_norm)

    def both(attention):
        other = dataclasses.replace(generator, attention=attention).network
        return jax.jit(
            jax.value_and_grad(
                lambda p: jnp.mean(
                    jnp.square(other.apply({"params": p}, *map(jnp.asarray, inputs()))[0])
                )
            )
        )(params)

    (value, gradients), (expected, expected_gradients) = both("splash"), both("dense")
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for got, wanted in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=2e-6 * float(jnp.abs(wanted).max()) + 1e-12)


@pytest.mark.parametrize(
    ("layout", "pads"), [("dp", [3] * 2), ("sequence:data=2:sequence=2", [4] * 6)]
)
def test_a_layer_is_padded_to_whole_blocks_before_its_heads_are_made_unless_its_positions_are_split(
    layout, pads
):
    """The ranks of what is padded in two layers: the stream of each, or its queries, keys and
    values.
    """
    generator, params = made(("column", "row"), attention="splash")
    mesh = make_mesh(parse_layout(layout), jax.devices()[:4])

    def whole(params):
        with placing(resolver(parse_layout(layout), mesh, "compute"), "cpu"):
            return generator.network.apply(
                {"params": params}, *(jnp.tile(jnp.asarray(x), (2, 1)) for x in inputs())
            )

    found = [
        (e.invars[0].aval, e.outvars[0].aval)
        for e in equations(jax.make_jaxpr(whole)(params).jaxpr)
        if e.primitive.name == "pad"
    ]
    assert [new.ndim for old, new in found if new.ndim > 2 and new.shape != old.shape] == [
        *pads,
        *pads,
    ]  # in both directions


@pytest.mark.parametrize("attention", ["blockwise", "splash"])
def test_both_directions_in_one_pass_are_the_two_passes(attention):
    """Also where only every second row trains captions."""
    generator, params = made(("row", "column"), attention=attention)
    text, codes = (jnp.tile(jnp.asarray(x), (2, 1)) for x in inputs())
    prompt = jnp.roll(text, 1, 1)
    image, captions = apply(generator, params, prompt, text[::2], codes, method="together")
    np.testing.assert_allclose(
        image, apply(generator, params, prompt, codes, method="image_given_text"), atol=2e-6
    )
    np.testing.assert_allclose(
        captions,
        apply(generator, params, text[::2], codes[::2], method="text_given_image"),
        atol=2e-6,
    )
