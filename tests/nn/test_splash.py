"""The TPU kernel, interpreted: values and gradients against the dense path, its blocks against the
oracle, what it saves, where it runs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.nn import pattern_oracle
from tests.nn.streams import arrays, equations, geometry, quick_jit
from vilg.nn import attention, splash
from vilg.nn.attention import AUTO, attend
from vilg.nn.cross_attention import attend_jointly
from vilg.nn.geometry import DIRECTIONS, Geometry
from vilg.nn.patterns import make_pattern
from vilg.parallel.constrain import placing
from vilg.parallel.layouts import parse_layout
from vilg.parallel.mesh import make_mesh, resolver

GRID, LENGTH = (9, 13), 20  # 137 positions: two blocks, the second mostly padding


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "variant", [v for v in pattern_oracle.VARIANTS if v[2] == 11 and v[1] != "same_row"]
)
def test_values_and_gradients_are_the_dense_paths(variant, direction):
    q, k, v, g = arrays(GRID, count=4, text=LENGTH, heads=1, size=8, batch=1)

    def both(implementation):
        def forward(q, k, v):
            return attend(q, k, v, geometry(variant, GRID, direction, LENGTH), implementation)

        return quick_jit(lambda q, k, v, g: (forward(q, k, v), *jax.vjp(forward, q, k, v)[1](g)))(
            q, k, v, g
        )

    for fast, slow in zip(both("splash"), both("dense"), strict=True):
        np.testing.assert_allclose(fast, slow, atol=2e-6 * float(jnp.abs(slow).max()))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS)
def test_mask_is_the_oracles_in_the_kernels_order(variant, direction):
    name, _, _ = variant
    found = splash.kernel_mask(geometry(variant, GRID, direction, LENGTH))
    expected = pattern_oracle.mask(*variant, direction, LENGTH, GRID)
    order = np.arange(len(expected))
    if name == "column":
        order[LENGTH:] = [LENGTH + r * GRID[1] + c for c in range(GRID[1]) for r in range(GRID[0])]
    assert found.shape == (256, 256)
    np.testing.assert_array_equal(found[: len(order), : len(order)], expected[np.ix_(order, order)])
    np.testing.assert_array_equal(found[len(order) :], np.eye(256, dtype=bool)[len(order) :])
    assert not found[: len(order), len(order) :].any()


@pytest.mark.parametrize(
    ("name", "share"), [("dense", 0.56), ("row", 0.30), ("column", 0.21), ("convolution", 0.37)]
)
def test_blocks_at_the_papers_size(name, share):
    """The shares of 128 x 128 blocks that run for 128 text + 32 x 32 image positions."""
    mask = splash.kernel_mask(Geometry(make_pattern(name), "text_to_image", 128, (32, 32)))
    assert splash.active_blocks(mask) / 81 == pytest.approx(share, abs=0.006)


def test_a_policy_that_saves_its_output_runs_the_forward_kernel_once():
    q, k, v = arrays((4, 4), heads=1, size=8, batch=1)

    def forward_kernels(policy):
        def loss(q, k, v):
            where = geometry(pattern_oracle.VARIANTS[1], (4, 4), "text_to_image")
            return attend(q, k, v, where, "splash").sum()

        jaxpr = jax.make_jaxpr(jax.grad(jax.checkpoint(loss, policy=policy), (0, 1, 2)))(q, k, v)
        calls = [e for e in equations(jaxpr.jaxpr) if e.params.get("name") == "_splash_attention"]
        return sum(
            "splash_mha_fwd" in str(e.params) for e in calls if e.outvars
        )  # a call whose results nobody uses goes when compiled

    assert forward_kernels(jax.checkpoint_policies.save_only_these_names("attention_out")) == 1
    assert forward_kernels(jax.checkpoint_policies.nothing_saveable) == 2


@pytest.mark.parametrize("layout", ["fsdp_tp:data=2:model=2", "sequence:data=2:sequence=2"])
def test_every_device_runs_its_own_rows_and_heads(layout):
    """Under a layout the kernel sees only a device's part, and the result is the one of a single
    device.
    """
    q, k, v = arrays((3, 5), heads=2, size=8, batch=4)
    mesh = make_mesh(parse_layout(layout), jax.devices()[:4])
    where = geometry(pattern_oracle.VARIANTS[3], (3, 5), "image_to_text")

    def sharded(q, k, v):
        with placing(resolver(parse_layout(layout), mesh, "compute"), "cpu"):
            return attend(q, k, v, where, "splash")

    shapes = [
        e.invars[3].aval.shape
        for e in equations(jax.make_jaxpr(sharded)(q, k, v).jaxpr)
        if e.primitive.name == "pallas_call"
    ]
    assert shapes == [(2, 1, 8, 128)]  # two rows, one head, one block
    alone = attend(q, k, v, where, "splash")
    np.testing.assert_allclose(quick_jit(sharded)(q, k, v), alone, atol=1e-6)


@pytest.mark.parametrize(("queries", "keys"), [(16, 21), (130, 140)])
def test_joint_attention_is_the_softmax_over_all_keys(queries, keys):
    q, k, v = (
        jax.random.normal(key, (2, 3, n, 8))
        for key, n in zip(
            jax.random.split(jax.random.key(0), 3), (queries, keys, keys), strict=True
        )
    )

    def plain(q, k, v):
        return attend_jointly(q, (k, v))

    for made, wanted in zip(both(splash.joint_splash, q, k, v), both(plain, q, k, v), strict=True):
        np.testing.assert_allclose(made, wanted, atol=2e-5)


def both(function, *arrays):
    """The result and the gradients of a sum over it that tells its places apart."""

    def total(*arrays):
        out = function(*arrays)
        return jnp.sum(out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)), out

    gradients, out = quick_jit(jax.grad(total, tuple(range(len(arrays))), has_aux=True))(*arrays)
    return out, *gradients


@pytest.mark.parametrize("platform", AUTO)
def test_auto_goes_by_the_devices_that_the_program_is_for(platform, monkeypatch):
    """Not by this machine's: a plan compiles for chips that are not here."""
    ran = []

    def fake(q, *_):
        ran.append(AUTO[platform])
        return q

    monkeypatch.setitem(attention.IMPLEMENTATIONS, AUTO[platform], fake)
    q, k, v = arrays((4, 4))
    with placing(
        lambda axes, shape: NamedSharding(
            Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec()
        ),
        platform,
    ):
        attend(q, k, v, geometry(pattern_oracle.VARIANTS[1], (4, 4), "text_to_image"), "auto")
    assert ran == [AUTO[platform]]
