"""The U-Net: the paper's parameter counts, diffusers' numbers for the same weights, scan, grids,
knowledge weights, bfloat16.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import oracle
from vilg.nn.cross_attention import AttentionOptions
from vilg.nn.unet import UNetConfig, unrolled
from vilg.nn.unet_blocks import AttentionBlock, ResidualBlock
from vilg.program import unbox
from vilg.types import UserError

SMALL = dict(channels=16, multipliers=(1, 2), blocks=2, attention=(2,), head_width=16, groups=8)
TINY = dict(channels=16, multipliers=(1,), blocks=2, attention=(1,), head_width=16, groups=8)


def randomised(module, *args, seed: int = 0):
    """Every parameter at random, so that what starts at zero counts; nothing is compiled."""
    rng = np.random.default_rng(seed)
    boxed = unbox(jax.eval_shape(module.init, jax.random.key(0), *args))
    return jax.tree_util.tree_map_with_path(
        lambda path, x: (
            0.1 * rng.standard_normal(x.shape) + ("scale" in jax.tree_util.keystr(path))
        ).astype(np.float32),
        boxed,
    )


def inputs(grid=(4, 6), m: int = 5, width: int = 24):
    rng = np.random.default_rng(1)
    shapes = (2, *grid, 4), (2, m, width), (2, width)
    x, context, pooled = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in shapes)
    return x, jnp.array([500.0, 13.0]), context, pooled


@pytest.fixture(scope="module")
def made():
    module = UNetConfig(**SMALL).module(4, (4, 6), "prob")
    params = randomised(module, *inputs())
    return module, params, np.asarray(jax.jit(module.apply)(params, *inputs()))


def test_parameters_are_the_papers():
    for channels, width, expected in ((512, 2048, 2_238_159_876), (320, 1280, 874_459_524)):
        module = UNetConfig(channels=channels).module(4, (8, 8), "prob")
        args = (
            jnp.zeros((1, 8, 8, 4)),
            jnp.zeros(1),
            jnp.zeros((1, 2, width)),
            jnp.zeros((1, width)),
        )
        assert (
            sum(
                x.size
                for x in jax.tree.leaves(jax.eval_shape(module.init, jax.random.key(0), *args))
            )
            == expected
        )


def test_equals_diffusers_block_by_block_and_whole(made):
    """UNet2DConditionModel in its unCLIP / GLIDE configuration, given our weights."""
    _, params, ours = made
    theirs = theirs_with(params["params"])
    torch = oracle("torch")

    x, time, context, _ = (torch.from_numpy(np.array(x)) for x in inputs())
    with torch.no_grad():
        blocks = theirs.down_blocks[1]
        h = torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(0))
        emb = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
        residual = blocks.resnets[0](h, emb)
        attended = blocks.attentions[0](residual, encoder_hidden_states=context)
        down = theirs.down_blocks[0].downsamplers[0](h, emb)
        whole = theirs(x.permute(0, 3, 1, 2), time, context).sample

    def nhwc(t):
        return t.permute(0, 2, 3, 1).numpy()

    step = params["params"]["down_1_0"]
    got = jax.jit(ResidualBlock(32, 8).apply)({"params": step["residual"]}, nhwc(h), emb.numpy())
    np.testing.assert_allclose(got, nhwc(residual), atol=2e-5)
    got = jax.jit(AttentionBlock(16, 8, AttentionOptions()).apply)(
        {"params": step["attention"]}, nhwc(residual), inputs()[2]
    )
    np.testing.assert_allclose(got, nhwc(attended), atol=2e-5)
    got = jax.jit(ResidualBlock(16, 8, "down").apply)(
        {"params": params["params"]["downsample_0"]}, nhwc(h), emb.numpy()
    )
    np.testing.assert_allclose(got, nhwc(down), atol=2e-5)
    np.testing.assert_allclose(ours, nhwc(whole), atol=1e-4 * np.abs(nhwc(whole)).max())


def test_scanned_blocks_compute_what_unrolled_blocks_compute_and_weights_of_one_change_nothing():
    module, plain = (
        UNetConfig(**TINY, scan=scan).module(4, (4, 6), "prob") for scan in (True, False)
    )
    params, args = randomised(module, *inputs((2, 3))), inputs((2, 3))
    apply = jax.jit(module.apply)
    whole = np.asarray(apply(params, *args))
    np.testing.assert_allclose(
        jax.jit(plain.apply)({"params": unrolled(params["params"])}, *args),
        whole,
        atol=1e-5 * np.abs(whole).max(),
    )
    np.testing.assert_array_equal(apply(params, *args, jnp.ones((2, 5))), whole)
    assert np.abs(apply(params, *args, jnp.full((2, 5), 2.0)) - whole).max() > 1e-3


def test_any_grid_that_the_halvings_divide(made):
    module, params, _ = made
    jax.eval_shape(module.apply, params, *inputs((8, 2)))
    with pytest.raises(UserError, match=r"grid=\(5, 6\).*multiples of 2"):
        jax.eval_shape(module.apply, params, *inputs((5, 6)))


def test_bfloat16_with_remat_and_chunks_is_near_and_has_finite_gradients():
    plain = UNetConfig(**TINY).module(4, (4, 6), "prob")
    other = UNetConfig(**TINY, dtype="bfloat16", remat="full", query_chunk=4).module(
        4, (4, 6), "prob"
    )
    params, args = randomised(plain, *inputs((2, 3))), inputs((2, 3))
    whole = np.asarray(jax.jit(plain.apply)(params, *args))
    loss = jax.jit(
        jax.grad(lambda p: (lambda y: ((y**2).mean(), y))(other.apply(p, *args)), has_aux=True)
    )
    gradient, got = loss(params)
    assert np.abs(got - whole).max() < 0.1 * np.abs(whole).max()
    assert all(
        np.isfinite(g).all() and np.abs(g).max() > 0
        for g in jax.tree.leaves(gradient["params"]["down_0_0"]["residual"])
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (dict(channels=15), "generator.denoiser.channels=15"),
        (dict(attention=(3,)), r"generator.denoiser.attention=\(3,\)"),
        (dict(groups=3), "generator.denoiser.groups=3"),
        (dict(head_width=24), "generator.denoiser.head_width=24"),
        (dict(remat="some"), "generator.denoiser.remat='some'"),
        (
            dict(attention_implementation="flash"),
            "generator.denoiser.attention_implementation='flash'",
        ),
        (
            dict(attention_implementation="splash", query_chunk=4),
            "generator.denoiser.query_chunk=4: needs attention_implementation=auto or chunked",
        ),
        (dict(query_chunk=-1), "generator.denoiser.query_chunk=-1"),
    ],
)
def test_bad_fields_are_one_sentence(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        UNetConfig(**{**SMALL, **fields})
    with pytest.raises(UserError, match=r"\(5, 6\).*multiples of 2"):
        UNetConfig(**SMALL).module(4, (5, 6), "prob")


def theirs_with(params):
    """diffusers' U-Net of the same shape as `made`, holding these weights."""
    torch = oracle("torch")
    model = oracle("diffusers").UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=2,
        cross_attention_dim=24,
        attention_head_dim=16,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    )
    weights, params = {}, unrolled(params)

    def put(name, kernel, bias):
        kernel = np.asarray(kernel)
        weights[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        weights[f"{name}.bias"] = bias

    def layer(name, p):
        if "scale" in p:
            weights.update({f"{name}.weight": p["scale"], f"{name}.bias": p["bias"]})
        else:
            put(name, p["kernel"], p["bias"])

    def residual(name, p):
        pairs = dict(
            norm_in="norm1",
            conv_in="conv1",
            time="time_emb_proj",
            norm_out="norm2",
            conv_out="conv2",
            shortcut="conv_shortcut",
        )
        for ours in p:
            layer(f"{name}.{pairs[ours]}", p[ours])

    def attention(name, p):
        layer(f"{name}.group_norm", p["norm"])
        p, c = p["attention"], p["norm"]["scale"].shape[0]
        for kinds, kernel, bias in (
            ("to_q to_k to_v", p["qkv"], p["qkv_bias"]),
            ("add_k_proj add_v_proj", p["text_kv"], p["text_kv_bias"]),
        ):
            for z, kind in enumerate(kinds.split()):
                put(f"{name}.{kind}", kernel[:, z].reshape(-1, c), bias[z].reshape(c))
        put(f"{name}.to_out.0", p["out"].reshape(c, c), p["out_bias"])

    def level(name, prefix):
        for step in (k for k in params if k.startswith(f"{prefix}_")):
            index = step.rsplit("_", 1)[1]
            residual(f"{name}.resnets.{index}", params[step]["residual"])
            if "attention" in params[step]:
                attention(f"{name}.attentions.{index}", params[step]["attention"])

    for name in ("conv_in", "conv_out"):
        layer(name, params[name])
    layer("conv_norm_out", params["norm_out"])
    layer("time_embedding.linear_1", params["time"]["time_in"])
    layer("time_embedding.linear_2", params["time"]["time_out"])
    for i in range(2):
        level(f"down_blocks.{i}", f"down_{i}")
        level(f"up_blocks.{i}", f"up_{1 - i}")
    residual("down_blocks.0.downsamplers.0", params["downsample_0"])
    residual("up_blocks.0.upsamplers.0", params["upsample_1"])
    residual("mid_block.resnets.0", params["middle_in"])
    attention("mid_block.attentions.0", params["middle_attention"])
    residual("mid_block.resnets.1", params["middle_out"])
    model.load_state_dict(
        {k: torch.from_numpy(np.array(v)) for k, v in weights.items()}, strict=True
    )
    return model.eval()
