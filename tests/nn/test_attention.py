"""The implementations against the oracle: values, gradient footprints, gradients, dtypes,
independence of heads and rows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from tests.nn import pattern_oracle
from tests.nn.streams import TEXT, arrays, geometry, quick_jit
from vilg.nn.attention import IMPLEMENTATIONS, attend, attend_source
from vilg.nn.geometry import DIRECTIONS, Geometry
from vilg.nn.patterns import make_pattern
from vilg.types import UserError


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("grid", [(4, 4), (8, 8)])
@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS)
def test_values_and_footprint(variant, grid, direction):
    """Block-wise output equals the oracle's, and out_i depends on k_j and v_j exactly where the
    oracle sees j from i.
    """
    q, k, v = arrays(grid, heads=1, size=2, batch=1)
    visible = pattern_oracle.mask(*variant, direction, TEXT, grid)

    def out(k, v):
        return attend(q, k, v, geometry(variant, grid, direction))

    values, jacobians = quick_jit(
        lambda k, v: (out(k, v), jax.jacrev(lambda *a: out(*a)[0, :, 0, 0], (0, 1))(k, v))
    )(k, v)
    np.testing.assert_allclose(
        values, pattern_oracle.attention(np.array(q), np.array(k), np.array(v), visible), atol=2e-6
    )
    for jacobian in jacobians:
        np.testing.assert_array_equal(np.abs(jacobian).max((1, 3, 4)) > 0, visible)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS)
def test_32x32(variant, direction):
    """The paper's grid: block-wise equals the oracle (one head of size 2)."""
    grid = (32, 32)
    q, k, v = arrays(grid, heads=1, size=2, batch=1)
    visible = pattern_oracle.mask(*variant, direction, TEXT, grid)
    out = quick_jit(lambda q, k, v: attend(q, k, v, geometry(variant, grid, direction)))(q, k, v)
    np.testing.assert_allclose(
        out, pattern_oracle.attention(np.array(q), np.array(k), np.array(v), visible), atol=1e-5
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS)
def test_blockwise_gradients_are_the_dense_paths(variant, direction):
    """f32, relative 1e-5, on grids that are not square; (20, 5) takes the wide convolution's blocks
    in groups.
    """
    grid = (20, 5) if variant[0] == "convolution" else (4, 6)
    q, k, v, g = arrays(grid, count=4)

    def both(implementation):
        def forward(q, k, v):
            return attend(q, k, v, geometry(variant, grid, direction), implementation)

        return quick_jit(lambda q, k, v, g: (forward(q, k, v), *jax.vjp(forward, q, k, v)[1](g)))(
            q, k, v, g
        )

    for fast, slow in zip(both("blockwise"), both("dense"), strict=True):
        np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-5 * float(jnp.abs(slow).max()))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS[1:])
def test_source_alone_is_the_whole_streams_source(variant, direction):
    grid = (4, 6)
    where = geometry(variant, grid, direction)
    part = slice(0, TEXT) if direction == "text_to_image" else slice(TEXT, None)

    def both(q, k, v):
        whole = attend(q, k, v, where, "dense")[:, part]
        return whole, attend_source(q[:, part], k[:, part], v[:, part], where)

    np.testing.assert_allclose(*quick_jit(both)(*arrays(grid)), atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_bfloat16(implementation):
    """bf16 in, bf16 out and bf16 gradients, near the f32 result; logits far above 1 do not
    overflow.
    """
    grid = (4, 4)
    where = geometry(pattern_oracle.VARIANTS[1], grid, "text_to_image")

    @quick_jit
    def outs(q, k, v):
        low = [x.astype(jnp.bfloat16) for x in (q, k, v)]
        out, pull = jax.vjp(lambda *a: attend(*a, where, implementation), *low)
        large = attend(300 * q, 300 * k, v, where, implementation)
        return attend(q, k, v, where, implementation), out, pull(out), large

    exact, out, gradients, large = outs(*arrays(grid))
    assert out.dtype == jnp.bfloat16 and all(x.dtype == jnp.bfloat16 for x in gradients)
    assert float(jnp.abs(out.astype(jnp.float32) - exact).max()) < 0.03
    assert bool(jnp.isfinite(large).all())


@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS[1::2])
def test_heads_and_rows_are_independent(variant):
    grid = (4, 4)
    where = geometry(variant, grid, "text_to_image")

    def both(q, k, v):
        part = (x[1:, :, :1] for x in (q, k, v))
        return attend(q, k, v, where)[1:, :, :1], attend(*part, where)

    np.testing.assert_allclose(*quick_jit(both)(*arrays(grid)), atol=1e-6)


def test_blockwise_holds_no_quadratic_array():
    """No value of a sparse pattern's forward or backward has an image x image share: its work
    follows the visible pairs.
    """
    grid, text = (32, 32), 8
    q, k, v = arrays(grid, heads=1, size=2, batch=1, text=text)
    for variant in pattern_oracle.VARIANTS[1:]:
        for direction in DIRECTIONS:

            def forward(q, k, v, variant=variant, direction=direction):
                return attend(q, k, v, geometry(variant, grid, direction, text)).sum()

            sizes = [
                int(np.prod(x.aval.shape))
                for x in _values(jax.make_jaxpr(jax.grad(forward, (0, 1, 2)))(q, k, v).jaxpr)
            ]
            assert max(sizes) <= 1024 * 64


def _values(jaxpr):
    for equation in jaxpr.eqns:
        yield from equation.outvars
        for inner in jaxprs_in_params(equation.params):
            yield from _values(inner)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pattern": "convolutional"}, "pattern='convolutional': did you mean 'convolution'"),
        ({"direction": "text_to_imag"}, "direction='text_to_imag': did you mean 'text_to_image'"),
        (
            {"grid": (4, 5)},
            r"grid=\(4, 5\): with text_length=3 needs 23 positions, the stream has 19",
        ),
        (
            {"implementation": "cudnn"},
            "implementation='cudnn': known names are 'auto', 'blockwise', 'dense'",
        ),
    ],
)
def test_mistakes_are_named(changed, said):
    q, k, v = arrays((4, 4))
    fields = {"pattern": "row", "direction": "text_to_image", "grid": (4, 4), **changed}
    with pytest.raises(UserError, match=said):
        pattern = make_pattern(fields["pattern"])
        where = Geometry(pattern, fields["direction"], TEXT, fields["grid"])
        attend(q, k, v, where, fields.get("implementation", "blockwise"))
