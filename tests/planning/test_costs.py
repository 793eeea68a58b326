"""Costs of compiled programs against textbook formulas: bytes of every layout's collectives, and
scanned layers as unrolled ones.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.conftest import tiny_diffusion
from vilg.experiment import build_experiment
from vilg.parallel.layouts import parse_layout
from vilg.planning.costs import count
from vilg.planning.hlo_parser import parse
from vilg.program import Program, unbox


def costs_of(function, *shapes, sizes=None):
    return count(parse(jax.jit(function).lower(*shapes).compile().as_text()), sizes or {"data": 1})


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def gradients(layout: str, **changes):
    """(costs, program) of loss and gradients of a DiT of two layers, in which every parameter is
    used once, on eight devices.
    """
    shape = dict(
        generator__denoiser__width=64,
        generator__denoiser__layers=2,
        generator__denoiser__heads=8,
        generator__text__heads=8,
    )
    experiment = build_experiment(tiny_diffusion(**{**shape, **changes}))
    program = Program(experiment, jax.devices(), parse_layout(layout))
    params = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        unbox(program.boxed),
        program.state_sharding.params,
    )
    b, codec = experiment.training.batch_size, experiment.image_codec
    batch = {
        "text": jax.ShapeDtypeStruct(
            (b, experiment.data.text.length), jnp.int32, sharding=program.batch_sharding
        ),
        "codes": jax.ShapeDtypeStruct(
            (b, *codec.grid, codec.latent_channels), jnp.float32, sharding=program.batch_sharding
        ),
    }
    compiled = (
        program.jit(lambda p, x: program.gradients(p, x, jax.random.key(3), jnp.int32(5))[2])
        .lower(params, batch)
        .compile()
    )
    return count(parse(compiled.as_text()), program.sizes), program


def test_a_dot_is_two_operations_a_multiply_add():
    assert (
        costs_of(lambda a, b: a @ b, array(32, 48), array(48, 16)).total_flops == 2 * 32 * 48 * 16
    )
    assert (
        costs_of(
            lambda a, b: jnp.einsum("bij,bjk->bik", a, b), array(3, 8, 16), array(3, 16, 4)
        ).total_flops
        == 2 * 3 * 8 * 16 * 4
    )


@pytest.mark.parametrize(
    ("stride", "padding", "groups"), [(1, "SAME", 1), (2, "SAME", 1), (1, "VALID", 2)]
)
def test_a_convolution_counts_only_what_meets_the_picture(stride, padding, groups):
    """Against the products that a one-by-one sum makes: convolving ones with ones gives the number
    of valid positions.
    """

    def convolve(x, k):
        return jax.lax.conv_general_dilated(
            x,
            k,
            (stride, stride),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    x, k = (2, 9, 7, 4), (3, 3, 4 // groups, 6)
    products = float(np.sum(convolve(jnp.ones(x), jnp.ones(k))))
    assert costs_of(convolve, array(*x), array(*k)).total_flops == 2 * products


def test_a_convolutions_gradients_cost_what_it_costs():
    def loss(x, k):
        return jnp.sum(
            jax.lax.conv_general_dilated(
                x, k, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            ** 2
        )

    x, k = array(2, 8, 8, 4), array(3, 3, 4, 6)
    forward = costs_of(loss, x, k).total_flops
    assert costs_of(jax.grad(loss, (0, 1)), x, k).total_flops == pytest.approx(
        3 * forward, rel=1e-6
    )


def test_a_loop_is_counted_as_often_as_it_runs():
    weights, x = array(5, 16, 16), array(4, 16)
    scanned = costs_of(
        lambda w, x: jax.lax.scan(lambda y, m: (jnp.tanh(y @ m), None), x, w)[0], weights, x
    )
    assert scanned.total_flops == 5 * 2 * 4 * 16 * 16 and not scanned.warnings


def test_forward_and_backward_are_told_apart():
    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ w) ** 2)

    flops = costs_of(jax.grad(loss), array(16, 16), array(4, 16)).flops
    assert flops["forward"] == flops["backward"] == 2 * 4 * 16 * 16 and flops["optimizer"] == 0


def test_plain_data_parallelism_sums_every_gradient_once():
    costs, program = gradients("dp")
    reduced = costs.collective_table()["data"]["all-reduce"]["bytes"]
    assert set(costs.collective_table()) == {"data"}
    assert reduced == pytest.approx(4 * program.parameters, rel=0.05)


@pytest.mark.parametrize(
    "layout", ["fsdp", *(pytest.param(layout, marks=pytest.mark.slow) for layout in ("dp", "tp"))]
)
def test_scanned_layers_cost_what_unrolled_layers_cost(layout):
    """With recomputation, since what XLA saves between unrolled layers a loop cannot save."""
    made = dict(generator__denoiser__remat="full")
    scanned, unrolled = (
        gradients(layout, **made, generator__denoiser__scan=scan)[0] for scan in (True, False)
    )
    assert scanned.total_flops == pytest.approx(unrolled.total_flops, rel=0.02)
    for axis, kinds in unrolled.collective_table().items():
        total = sum(kind["bytes"] for kind in kinds.values())
        assert sum(
            kind["bytes"] for kind in scanned.collective_table()[axis].values()
        ) == pytest.approx(total, rel=0.02), axis


def test_a_weight_on_the_wrong_axis_shows_as_bytes_on_that_axis():
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))

    def run(spec):
        x = jax.ShapeDtypeStruct(
            (64, 256), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("data"))
        )
        scale = jax.ShapeDtypeStruct((256,), jnp.float32, sharding=NamedSharding(mesh, spec))
        text = (
            jax.jit(lambda x, s: x * s, out_shardings=x.sharding)
            .lower(x, scale)
            .compile()
            .as_text()
        )
        return count(parse(text), dict(mesh.shape)).collective_table()

    assert run(PartitionSpec()) == {}
    assert set(run(PartitionSpec("model"))) == {"model"}


BESIDE = """HloModule toy, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%called (given: bf16[64,8], token: token[]) -> bf16[16,8] {
  %given = bf16[64,8]{1,0} parameter(0)
  %token = token[] parameter(1)
  %turned = bf16[64,8]{1,0} copy(%given),\
 backend_config={"window_config":{"estimated_cycles":"500"}}
  ROOT %scatter = bf16[16,8]{1,0} reduce-scatter(%turned), channel_id=6,\
 replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=%add
}, execution_thread="sparsecore"

ENTRY %main (p: bf16[64,8]) -> bf16[16,8] {
  %p = bf16[64,8]{1,0} parameter(0)
  %ready = token[] after-all()
  %begun = ((bf16[64,8]{1,0}, token[]), bf16[16,8]{1,0}) call-start(%p, %ready),\
 async_execution_thread="sparsecore", to_apply=%called
  %work = bf16[64,8]{1,0} copy(%p), backend_config={"window_config":{"estimated_cycles":"70"}}
  ROOT %done = bf16[16,8]{1,0} call-done(%begun)
}
"""


def test_what_the_sparsecore_sums_is_asynchronous_and_its_cycles_are_not_the_cores():
    costs = count(parse(BESIDE), {"data": 4})
    (sum_,) = costs.collectives
    assert (
        sum_.kind == "reduce-scatter"
        and sum_.asynchronous
        and (sum_.bytes, sum_.members, sum_.axis) == (64 * 8 * 2, 4, "data")
    )
    assert sum(costs.cycles.values()) == 70
    apart = (
        BESIDE.replace('}, execution_thread="sparsecore"', "}")
        .replace("call-start", "call")
        .replace("call-done", "copy")
    )
    assert not count(parse(apart), {"data": 4}).collectives[0].asynchronous


BETWEEN = """HloModule toy, is_scheduled=true

ENTRY %main (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0} parameter(0)
  %token = token[] after-all()
  %g = f32[8,128]{1,0} negate(%p), metadata={op_name="jit(update)/transpose(jvp(Model))/neg"}
  %c = f32[8,128]{1,0} copy(%g)
  %send = (f32[8,128]{1,0}, u32[], token[]) send(%c, %token), channel_id=3,\
 is_host_transfer=true,\
 frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",\
_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2}x{0:3}",\
_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv = (f32[8,128]{1,0}, u32[], token[]) recv(%token), channel_id=2, is_host_transfer=true,\
 frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",\
_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %sent = token[] send-done(%send), channel_id=3, is_host_transfer=true
  %got = (f32[8,128]{1,0}, token[]) recv-done(%recv), channel_id=2, is_host_transfer=true
  ROOT %sum = f32[8,128]{1,0} get-tuple-element(%got), index=0
}
"""  # as libtpu writes the sum over two slices of four chips each


def test_what_goes_between_slices_is_a_collective_over_the_axis_that_crosses_them():
    costs = count(parse(BETWEEN), {"replica": 2, "data": 4})
    assert costs.collective_table() == {
        "replica": {"all-reduce": {"count": 1.0, "bytes": 8 * 128 * 4.0}}
    }
    (sum_,) = costs.collectives
    assert (
        sum_.groups == ((0, 4), (1, 5), (2, 6), (3, 7)) and sum_.members == 2 and sum_.asynchronous
    )
    assert sum_.phase == "backward", "its own name is gone; its producer's says it"
    ring = {
        (s, chip): 4 * s + k for s in range(2) for k, chip in enumerate((0, 1, 3, 2))
    }  # chips as they lie in the mesh
    for kind, target, axis, groups in (
        (
            "ALL_TO_ALL",
            "{{100000,100003,200000,200003},{100001,100002,200001,200002}}",
            "data",
            ((0, 2, 4, 6), (1, 3, 5, 7)),
        ),
        ("ONE_TO_ONE", "{{200000->100003},{100001->200000}}", "data+model", ((4, 2), (1, 4))),
    ):
        text = BETWEEN.replace('"{1,2}x{0:3}"', target).replace("ALL_REDUCE", kind)
        (moved,) = count(parse(text), {"data": 4, "model": 2}, ring).collectives
        assert (moved.kind, moved.axis, moved.groups) == (
            {"ONE_TO_ONE": "collective-permute"}.get(kind, "all-to-all"),
            axis,
            groups,
        )
    with pytest.raises(
        ValueError, match="a transfer between slices is written in a way that is not known"
    ):
        count(parse(BETWEEN.replace("{1,2}x{0:3}", "[2]x[4]")), {"replica": 2, "data": 4})


SHARED = """HloModule toy, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%layer (x: f32[64,64]) -> f32[64,64] {
  %x = f32[64,64]{1,0} parameter(0)
  %d = f32[64,64]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %r = f32[64,64]{1,0} all-reduce(%d), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
}

ENTRY %main (p: f32[64,64]) -> f32[64,64] {
  %p = f32[64,64]{1,0} parameter(0)
  %one = f32[64,64]{1,0} call(%p), to_apply=%layer
  ROOT %two = f32[64,64]{1,0} call(%one), to_apply=%layer
}
"""


def test_a_computation_that_is_called_twice_counts_twice_with_its_collectives():
    costs = count(parse(SHARED), {"data": 4})
    assert costs.total_flops == 2 * 2 * 64**3
    assert costs.collective_table()["data"]["all-reduce"]["count"] == 2
