"""Bytes of the transformer's collectives against the textbook: fully sharded data parallelism
(ZeRO, arXiv 1910.02054) and Megatron's tensor parallelism (arXiv 1909.08053), for the trunk alone,
so that nothing else talks."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from vilg.nn.patterns import make_pattern
from vilg.nn.transformer import TrunkConfig
from vilg.nn.trunk import Trunk
from vilg.nn.unet_blocks import ResidualBlock
from vilg.parallel.axes import is_box, unbox
from vilg.parallel.constrain import placing
from vilg.parallel.layouts import parse_layout
from vilg.parallel.mesh import make_mesh, resolver
from vilg.planning.costs import count
from vilg.planning.hlo_parser import parse

ROWS, LAYERS, WIDTH, LENGTH = 16, 4, 64, 8 + 16
CONFIG = TrunkConfig(
    width=WIDTH,
    heads=8,
    mlp_width=4 * WIDTH,
    patterns=(make_pattern("dense"),) * LAYERS,
    text_length=8,
    grid=(4, 4),
    implementation="dense",
    qk_norm=False,
    rotary_base=0.0,
    remat="full",
    scan=True,
    dtype=jnp.float32,
)


def collectives(layout: str, remat: str = "full") -> tuple[dict[str, float], int, float]:
    """Bytes of each kind of collective in the gradient of a scanned trunk with everything computed
    again, its parameters, and the bytes of one stream."""
    mesh, trunk = make_mesh(parse_layout(layout)), Trunk(dataclasses.replace(CONFIG, remat=remat))
    stream = jnp.zeros((1, LENGTH, WIDTH))
    boxed = jax.eval_shape(
        lambda: trunk.init(jax.random.key(0), stream, "text_to_image", method="full")
    )
    place = {
        table: resolver(parse_layout(layout), mesh, table)
        for table in ("params", "gradients", "compute")
    }

    def placed(table):
        return jax.tree.map(lambda b: place[table](b.names, b.value.shape), boxed, is_leaf=is_box)

    params = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        unbox(boxed),
        placed("params"),
    )
    shape = (ROWS, LENGTH, WIDTH)
    x = jax.ShapeDtypeStruct(
        shape, jnp.float32, sharding=place["compute"](("batch", "length", "embed"), shape)
    )

    def gradient(params, x):
        with placing(place["compute"]):
            return jax.grad(
                lambda p: jnp.sum(trunk.apply(p, x, "text_to_image", method="full") ** 2)
            )(params)

    text = jax.jit(gradient, out_shardings=placed("gradients")).lower(params, x).compile().as_text()
    kinds = {}
    for by_kind in count(parse(text), dict(mesh.shape)).collective_table().values():
        for kind, entry in by_kind.items():
            kinds[kind] = kinds.get(kind, 0) + entry["bytes"]
    return kinds, sum(x.size for x in jax.tree.leaves(params)), 4.0 * x.size


def test_fsdp_gathers_every_weight_twice_and_sums_every_gradient_once():
    """The backward pass gathers again what it computes again; XLA on CPUs makes a reduce-scatter of
    an all-reduce and a slice.
    """
    moved, parameters, _ = collectives("fsdp")
    assert moved["all-gather"] == pytest.approx(2 * 4 * parameters, rel=0.1)
    assert moved.get("reduce-scatter", 0) + moved.get("all-reduce", 0) == pytest.approx(
        4 * parameters, rel=0.1
    )
    assert set(moved) <= {"all-gather", "reduce-scatter", "all-reduce"}


@pytest.mark.parametrize(("remat", "sums"), [("none", 4), ("full", 5)])
def test_tensor_parallelism_sums_the_stream_twice_a_layer_and_direction(remat, sums):
    """After attention and after the feed-forward part, in both passes; where a layer is computed
    again, its first sum comes again.
    """
    moved, _, stream = collectives("tp", remat)
    assert moved["all-reduce"] == pytest.approx(sums * LAYERS * stream, rel=0.1)
    assert sum(moved.values()) == pytest.approx(moved["all-reduce"], rel=0.1)


@pytest.mark.parametrize("resample", ["none", "up", "down"])
def test_fsdp_of_a_convolutional_block_gathers_weights_and_not_pictures(resample):
    """Of a convolution with nothing said on one side XLA computed a part of the channels for the
    whole batch: with "up" 6 times the weights came.
    """
    layout, block, shape = parse_layout("fsdp"), ResidualBlock(64, 8, resample), (16, 8, 8, 64)
    mesh = make_mesh(layout)
    place = {table: resolver(layout, mesh, table) for table in ("params", "gradients", "compute")}
    boxed = jax.eval_shape(
        lambda: block.init(jax.random.key(0), jnp.zeros((1, *shape[1:])), jnp.zeros((1, 256)))
    )
    placed = {
        t: jax.tree.map(lambda b, t=t: place[t](b.names, b.value.shape), boxed, is_leaf=is_box)
        for t in ("params", "gradients")
    }
    params = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        unbox(boxed),
        placed["params"],
    )
    x = jax.ShapeDtypeStruct(
        shape,
        jnp.float32,
        sharding=place["compute"](("batch", "rows", "columns", "channels_in"), shape),
    )
    time = jax.ShapeDtypeStruct(
        (16, 256), jnp.float32, sharding=place["compute"](("batch", None), (16, 256))
    )

    def gradients(params, x, time):
        with placing(place["compute"]):
            return jax.grad(lambda p, x: jnp.sum(block.apply(p, x, time) ** 2), (0, 1))(params, x)

    text = (
        jax.jit(gradients, out_shardings=(placed["gradients"], x.sharding))
        .lower(params, x, time)
        .compile()
        .as_text()
    )
    moved = count(parse(text), dict(mesh.shape)).collective_table()["data"]
    weights = 4.0 * sum(p.size for p in jax.tree.leaves(params))
    assert 1.0 * weights <= moved["all-gather"]["bytes"] <= 2.1 * weights
    assert (
        sum(entry["bytes"] for kind, entry in moved.items() if kind != "all-gather")
        <= 1.1 * weights
    )
