"""Windows: what each state holds of the tokens before it, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vilg.nn.embed import TokenEmbed, square_before
from vilg.program import unbox
from vilg.types import PAD

WIDTH, LENGTH, GRID = 8, 7, (3, 4)


def made(**windows):
    embed = TokenEmbed(WIDTH, 20, LENGTH, 16, GRID, 0.5, **windows)
    rng = np.random.default_rng(0)
    text = rng.integers(5, 20, (2, LENGTH)).astype(np.int32)
    text[0, 5:] = PAD
    text, codes = (
        jnp.asarray(text),
        jnp.asarray(rng.integers(0, 16, (2, GRID[0] * GRID[1])).astype(np.int32)),
    )
    params = embed.init(jax.random.key(0), text, "text_to_image", method="text")["params"]
    return embed, unbox(params), text, codes


def test_a_square_has_half_its_places_before_its_centre():
    assert square_before(1) == [(-1, -1), (-1, 0), (-1, 1), (0, -1)]
    assert len(square_before(2)) == 12


@pytest.mark.parametrize("window", [1, 3])
def test_text_states_hold_the_ids_before_them(window):
    embed, params, text, _ = made(text_window=window)
    got = jax.jit(lambda p, t: embed.apply({"params": p}, t, "text_to_image", method="text"))(
        params, text
    )
    table, marks = params["text_table"], params["text_before"]
    for row in range(2):
        for j in range(LENGTH):
            expected = table[text[row, j]] + sum(
                marks[back - 1] * table[text[row, j - back]]
                for back in range(1, window + 1)
                if j >= back
            )
            expected = params["text_pad"][j] if text[row, j] == PAD else expected
            np.testing.assert_allclose(
                got[row, j], expected + params["text_position"][j] + params["role"][0, 0], atol=1e-5
            )


@pytest.mark.parametrize("radius", [1, 2])
def test_image_states_hold_the_codes_before_them(radius):
    embed, params, _, codes = made(image_window=radius)
    got = jax.jit(lambda p, c: embed.apply({"params": p}, c, "image_to_text", method="image"))(
        params, codes
    )
    table = params["image_table"]
    for k in range(GRID[0] * GRID[1]):
        y, x = divmod(k, GRID[1])
        expected = (
            table[codes[1, k]]
            + params["image_row"][y]
            + params["image_column"][x]
            + params["role"][1, 1]
        )
        for (dy, dx), mark in zip(square_before(radius), params["image_before"], strict=True):
            if 0 <= y + dy and 0 <= x + dx < GRID[1]:
                expected = expected + mark * table[codes[1, (y + dy) * GRID[1] + x + dx]]
        np.testing.assert_allclose(got[1, k], expected, atol=1e-5)


def test_without_windows_there_are_no_further_parameters():
    embed, params, text, codes = made()
    assert not {"text_before", "image_before"} & set(params)
    image = embed.apply({"params": params}, codes, "image_to_text", method="image")
    assert image.shape == (2, 12, WIDTH)
