"""The resolver and the table of layouts."""

import jax
import pytest
from jax.sharding import PartitionSpec as P

from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain
from vilg.parallel.layout import Layout
from vilg.parallel.layouts import LAYOUTS, parse_layout
from vilg.parallel.mesh import make_mesh, over_slices
from vilg.types import UserError


def test_fsdp_tp_places_a_matrix_on_both_axes():
    layout = parse_layout("fsdp_tp:model=2")
    sizes = layout.sizes(8)
    assert sizes == {"data": 4, "model": 2}
    assert layout.spec("params", ("embed", "mlp"), (64, 256), sizes) == P("data", "model")
    assert layout.spec("params", ("vocab", "embed"), (512, 64), sizes) == P("model", "data")
    assert layout.spec(
        "params", ("layers", "embed", None, "heads", "head_dim"), (4, 64, 3, 4, 16), sizes
    ) == P(None, "data", None, "model")


def test_a_convolution_is_sharded_by_the_first_channel_axis_that_divides():
    layout, sizes = LAYOUTS["fsdp"](), {"data": 8}
    axes = ("rows", "columns", "channels_in", "channels_out")
    assert layout.spec("params", axes, (3, 3, 16, 32), sizes) == P(None, None, None, "data")
    assert layout.spec("params", axes, (3, 3, 16, 3), sizes) == P(None, None, "data")
    assert layout.spec("params", axes, (3, 3, 3, 3), sizes) == P()


def test_zero_stages_are_which_tables_shard():
    shape, axes = (64, 256), ("embed", "mlp")
    for name, sharded in {
        "zero1": ["optimizer"],
        "zero2": ["gradients", "optimizer"],
        "fsdp": ["params", "gradients", "optimizer"],
    }.items():
        layout = LAYOUTS[name]()
        assert [
            t
            for t in ("params", "gradients", "optimizer")
            if layout.spec(t, axes, shape, {"data": 8}) != P()
        ] == sharded
    for stage, sharded in {
        1: ["optimizer"],
        2: ["gradients", "optimizer"],
        3: ["params", "gradients", "optimizer"],
    }.items():
        layout = parse_layout(f"group_sharded:stage={stage}")
        sizes = layout.sizes(8)
        assert sizes == {"replica": 2, "shard": 4}
        assert [
            t
            for t in ("params", "gradients", "optimizer")
            if layout.spec(t, axes, shape, sizes) != P()
        ] == sharded


def test_what_does_not_divide_is_named_all_at_once():
    with pytest.raises(UserError, match=r"(?s)a/w.*10.*does not divide.*b/w"):
        LAYOUTS["fsdp"]().check(
            {"a/w": (("embed", "mlp"), (10, 4)), "b/w": (("embed",), (9,)), "c": (("mlp",), (3,))},
            8,
        )


def test_a_mesh_axis_claimed_twice_is_an_error():
    layout = Layout("odd", {"data": -1}, {"embed": "data", "mlp": "data"}, {}, {}, {})
    with pytest.raises(ValueError, match="claim the mesh axis 'data' twice"):
        layout.spec("params", ("embed", "mlp"), (8, 8), {"data": 8})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fsdp_tp:model=3", "does not fit 8 device"),
        ("dp:data=4", "does not fit 8 device"),
        ("fsdq", "known layouts"),
        ("fsdp_tp:modle=2", "axis one of"),
        ("group_sharded:stage=4", "must be 1, 2 or 3"),
        ("dp:data=0", "at least 1"),
        ("dp:offload=2", "offload=2 must be 0 or 1"),
    ],
)
def test_bad_layouts_say_what_would_do(text, message):
    with pytest.raises(UserError, match=message):
        parse_layout(text).sizes(8)


def test_misspelt_axes_are_errors():
    with pytest.raises(ValueError, match="unknown logical axis 'embd'"):
        named(jax.nn.initializers.zeros, "embd")
    with pytest.raises(ValueError, match="unknown logical axis 'bach'"):
        constrain(jax.numpy.zeros((2,)), "bach")
    with pytest.raises(ValueError, match="got 1 axes"):
        constrain(jax.numpy.zeros((2, 2)), "batch")
    with pytest.raises(ValueError, match="unknown logical axis 'embd'"):
        Layout("odd", {"data": -1}, {"embd": "data"}, {}, {}, {})
    with pytest.raises(ValueError, match="absent from the mesh"):
        Layout("odd", {"data": -1}, {"embed": "model"}, {}, {}, {})


def test_the_mesh_uses_every_device():
    assert make_mesh(parse_layout("fsdp_tp:model=4")).shape == {"data": 2, "model": 4}
    with pytest.raises(UserError, match="does not fit 3"):
        make_mesh(parse_layout("fsdp_tp:model=2"), jax.devices()[:3])


@pytest.mark.parametrize(
    ("sizes", "slices", "across"),
    [
        ([2, 16], 2, [2, 1]),
        ([32], 2, [2]),
        ([3, 4], 2, [1, 2]),
        ([6, 4], 4, [2, 2]),
        ([8, 2], 1, [1, 1]),
    ],
)
def test_the_first_axes_cross_slices(sizes, slices, across):
    assert over_slices(sizes, slices) == across


def test_positions_are_split_outside_attention_and_heads_inside():
    layout = parse_layout("sequence:sequence=4")
    sizes = layout.sizes(8)
    assert layout.spec("compute", ("batch", "length", "embed"), (4, 88, 64), sizes) == P(
        "data", "sequence"
    )
    assert layout.spec(
        "compute", ("batch", "length", "heads", "head_dim"), (4, 88, 8, 8), sizes
    ) == P("data", "sequence")
    assert layout.spec("compute", ("batch", None, "heads", "head_dim"), (4, 88, 8, 8), sizes) == P(
        "data", None, "sequence"
    )
    assert layout.spec("compute", ("batch", "length", "embed"), (4, 1, 64), sizes) == P("data")
    assert layout.spec("params", ("embed", "mlp"), (64, 256), sizes) == P(("data", "sequence"))
