"""The DiT and the attention that both denoisers share: brute force, knowledge weights, patches,
grids, scan, gates.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.nn.streams import equations
from tests.nn.test_unet import TINY, inputs, randomised
from tests.oracles import oracle
from vilg.nn.attention import dot_product_kernel
from vilg.nn.cross_attention import (
    AUTO,
    IMPLEMENTATIONS,
    LONG,
    AttentionOptions,
    attend_jointly,
)
from vilg.nn.denoisers import DENOISERS
from vilg.nn.dit import DiTBlock, DiTConfig
from vilg.nn.time_embed import sinusoids
from vilg.nn.unet import UNetConfig
from vilg.parallel.constrain import placing
from vilg.program import axes_of, unbox
from vilg.training.optimizer import muon_dimensions
from vilg.types import UserError

SMALL = dict(width=16, layers=2, heads=2, patch=2)


def made(**fields):
    module = DiTConfig(**{**SMALL, **fields}).module(5, (4, 6), "prob")
    return module, randomised(module, *inputs())


@pytest.mark.parametrize("mode", ["prob", "logit"])
@pytest.mark.parametrize(
    ("implementation", "chunk"), [("auto", 0), ("chunked", 4), ("dot_product", 0), ("splash", 0)]
)
def test_joint_attention_is_brute_force(mode, implementation, chunk):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 3, 6, 8)).astype(np.float32) for _ in range(3))
    text_k, text_v = (rng.standard_normal((2, 3, 5, 8)).astype(np.float32) for _ in range(2))
    weights = (1 + rng.uniform(size=(2, 5))).astype(np.float32)
    keys, values = np.concatenate([text_k, k], 2), np.concatenate([text_v, v], 2)
    factor = np.concatenate([weights, np.ones((2, 6), np.float32)], 1)[:, None, None]
    logits = np.einsum("bhqk,bhsk->bhqs", q, keys) / np.sqrt(8)
    logits = logits * factor if mode == "logit" else logits
    weight = (
        np.exp(logits) / np.exp(logits).sum(-1, keepdims=True) * (factor if mode == "prob" else 1)
    )
    arrays = [jnp.asarray(x) for x in (q, k, v, text_k, text_v, weights)]

    @jax.jit
    def attend(weights, q, *pairs):
        options = AttentionOptions(mode, query_chunk=chunk, implementation=implementation)
        return attend_jointly(q, pairs[:2], pairs[2:], weights, options)

    np.testing.assert_allclose(
        attend(arrays[5], *arrays[:5]), np.einsum("bhqs,bhsk->bhqk", weight, values), atol=1e-5
    )
    np.testing.assert_array_equal(attend(jnp.ones((2, 5)), *arrays[:5]), attend(None, *arrays[:5]))
    with pytest.raises(UserError, match="attend_mode='other'"):
        attend_jointly(arrays[0], tuple(arrays[1:3]), options=AttentionOptions("other"))
    with pytest.raises(UserError, match="implementation='other'"):
        other = AttentionOptions(implementation="other")
        attend_jointly(arrays[0], tuple(arrays[1:3]), options=other)


@pytest.mark.parametrize("platform", AUTO)
@pytest.mark.parametrize(
    ("length", "dtype"), [(LONG, jnp.bfloat16), (LONG, jnp.float32), (LONG - 1, jnp.bfloat16)]
)
def test_long_queries_in_half_precision_get_the_kernel_of_the_devices(
    platform, length, dtype, monkeypatch
):
    """Of those that the program is for: a plan compiles for chips that are not here."""
    ran = []
    for name in IMPLEMENTATIONS:
        monkeypatch.setitem(
            IMPLEMENTATIONS, name, lambda q, *_, name=name: (ran.append(name), q)[1]
        )
    q = jnp.zeros((1, 1, length, 8), dtype)
    with placing(
        lambda axes, shape: NamedSharding(
            Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec()
        ),
        platform,
    ):
        attend_jointly(q, (q, q))
    assert ran == [AUTO[platform] if (length, dtype) == (LONG, jnp.bfloat16) else "chunked"]


@pytest.mark.parametrize(
    ("denoiser", "calls"), [(DiTConfig(**SMALL), 1), (UNetConfig(**TINY, scan=False), 2 + 3 + 1)]
)
def test_a_denoisers_field_says_what_computes_every_attention(denoiser, calls):
    chunked, splash = (
        dataclasses.replace(denoiser, attention_implementation=name).module(5, (4, 6), "prob")
        for name in ("chunked", "splash")
    )
    params = randomised(chunked, *inputs())
    for module, expected in ((splash, calls), (chunked, 0)):
        ran = [
            e.primitive.name
            for e in equations(jax.make_jaxpr(module.apply)(params, *inputs()).jaxpr)
        ]
        assert ran.count("pallas_call") == expected
    got, wanted = (
        np.asarray(jax.jit(module.apply)(params, *inputs())) for module in (splash, chunked)
    )
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("heads", "dtype", "masked", "length", "kernel"),
    [
        (64, jnp.bfloat16, False, 5, "cudnn"),
        (64, jnp.bfloat16, True, 6, "cudnn"),
        (64, jnp.bfloat16, True, 5, "xla"),
        (64, jnp.float32, False, 6, "xla"),
        (60, jnp.bfloat16, False, 6, "xla"),
        (136, jnp.bfloat16, False, 6, "xla"),
    ],
)
def test_cudnn_gets_what_it_takes(heads, dtype, masked, length, kernel):
    q = jnp.zeros((1, length, 2, heads), dtype)
    with placing(lambda axes, shape: None, "gpu"):
        assert dot_product_kernel(q, masked) == kernel
    assert dot_product_kernel(q, masked) == "xla"


def test_sinusoids_are_diffusers():
    torch = oracle("torch")
    embeddings = oracle("diffusers.models.embeddings")
    time = np.array([0.0, 1.0, 500.0, 999.5], np.float32)
    theirs = embeddings.get_timestep_embedding(
        torch.from_numpy(time), 32, flip_sin_to_cos=True, downscale_freq_shift=0
    )
    np.testing.assert_allclose(sinusoids(jnp.asarray(time), 32), theirs, atol=1e-4)


def test_scan_weights_of_one_text_order_and_knowledge():
    module, params = made(rotary_base=100.0, qk_norm=True)
    apply, (x, time, context, pooled) = jax.jit(module.apply), inputs()
    whole = np.asarray(apply(params, x, time, context, pooled))
    assert whole.shape == (2, 4, 6, 5) and whole.dtype == np.float32
    plain = jax.jit(made(rotary_base=100.0, qk_norm=True, scan=False)[0].apply)
    np.testing.assert_allclose(plain(params, x, time, context, pooled), whole, atol=1e-4)
    np.testing.assert_array_equal(apply(params, x, time, context, pooled, jnp.ones((2, 5))), whole)
    other = [
        apply(params, x, time, context, pooled, jnp.full((2, 5), 2.0)),
        apply(params, x, time + 9, context, pooled),
    ]
    other += [
        apply(params, x, time, context, pooled + 1),
        apply(params, x, time, context.at[:, 0].add(1.0), pooled),
    ]
    for changed in other:
        assert np.abs(changed - whole).max() > 1e-4
    bare = jnp.full((1, 4, 6, 4), 1.0)
    spread = apply(params, bare, time[:1], context[:1], pooled[:1])
    assert np.ptp(spread[0, ::2, ::2, 0]) > 1e-4  # equal patches differ by their places


def test_patches_come_back_where_they_were():
    """With zero blocks the output at a pixel moves with the input of its own patch only."""
    module, params = made(layers=1)
    params["params"]["blocks"] = jax.tree.map(np.zeros_like, params["params"]["blocks"])
    x, time, context, pooled = inputs()
    apply = jax.jit(module.apply)

    def moved(x):
        return apply(params, x, time, context, pooled)

    changed = np.abs(moved(x.at[0, 1, 4, 0].add(1.0)) - moved(x)).sum(-1)
    expected = np.zeros((2, 4, 6), bool)
    expected[0, 0:2, 4:6] = True
    np.testing.assert_array_equal(changed > 1e-6, expected)


def test_other_grids_run_and_indivisible_ones_are_one_sentence():
    module, params = made()
    assert jax.eval_shape(module.apply, params, *inputs((6, 4))).shape == (2, 6, 4, 5)
    with pytest.raises(UserError, match=r"grid=\(5, 6\).*patch=2"):
        jax.eval_shape(module.apply, params, *inputs((5, 6)))
    for fields, sentence in (
        (dict(patch=0), "denoiser.patch=0"),
        (dict(heads=3), "denoiser.heads=3"),
        (dict(rotary_base=0.5), "denoiser.rotary_base=0.5"),
    ):
        with pytest.raises(UserError, match=sentence):
            DiTConfig(**{**SMALL, **fields})


def test_closed_gates_leave_the_tokens_alone():
    """As initialised a block with gates from zero is the identity, with gates from one it is
    not.
    """
    args = (
        jnp.ones((1, 4, 16)) * jnp.arange(16.0),
        jnp.ones((1, 16)),
        jnp.ones((1, 3, 24)),
        None,
        jnp.zeros((4, 2)),
    )
    for zero in (True, False):
        config = DiTConfig(width=16, layers=1, heads=2, mlp_ratio=2.0, zero_gates=zero)
        block = DiTBlock(config, config.attention_options("prob"))
        params = unbox(block.init(jax.random.key(0), *args))
        assert bool((block.apply(params, *args)[0] == args[0]).all()) == zero


def test_bfloat16_gradients_are_finite():
    module, params = made(dtype="bfloat16", remat="dots", query_chunk=4)
    gradient = jax.jit(jax.grad(lambda p: (module.apply(p, *inputs()) ** 2).mean()))(params)
    assert all(
        np.isfinite(g).all() and np.abs(g).max() > 0
        for k, g in gradient["params"]["blocks"]["attention"].items()
        if "bias" not in k
    )


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("dit", SMALL),
        ("unet", dict(channels=16, multipliers=(1, 2), blocks=1, groups=8, head_width=8)),
    ],
)
def test_muon_takes_hidden_matrices_and_leaves_heads(name, fields):
    if name == "unet":
        fields = {**fields, "attention": (2,)}
    module = DENOISERS[name](**fields).module(5, (4, 6), "prob")
    axes = axes_of(jax.eval_shape(module.init, jax.random.key(0), *inputs()))["params"]
    taken = jax.tree.map(
        lambda a: muon_dimensions(a) is not None, axes, is_leaf=lambda a: isinstance(a, tuple)
    )
    flat = {
        jax.tree_util.keystr(path): value
        for path, value in jax.tree_util.tree_flatten_with_path(taken)[0]
    }
    assert any("qkv']" in k for k in flat)
    for path, value in flat.items():
        if any(
            part in path
            for part in (
                "qkv']",
                "text_kv']",
                "['out']" if "attention" in path else "none",
                "residual']['conv",
            )
        ):
            matrix = "bias" not in path
            assert value == matrix, path
        if path.startswith(("['out']", "['conv_out']", "['row']", "['column']")) or "scale" in path:
            assert not value, path
