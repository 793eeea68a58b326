"""The text encoder: the paper's parameter counts, torch's numbers for the same weights, order,
padding, scan.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.test_unet import randomised
from tests.oracles import oracle
from vilg.nn.text_encoder import TextEncoderConfig
from vilg.types import END, PAD, START, UserError

IDS = jnp.array(
    [[START["zh"], 7, 9, 8, END, PAD, PAD, PAD], [START["en"], 9, 7, 8, 11, 12, 13, END]]
)


def made(**fields):
    module = TextEncoderConfig(**{**dict(width=16, layers=2, heads=2), **fields}).module(20, 8)
    params = randomised(module, IDS)
    return module, params, jax.jit(module.apply)


def test_parameters_are_the_papers():
    for width, heads, expected in ((2048, 32, 1_252_188_160), (1280, 20, 499_502_080)):
        module = TextEncoderConfig(width=width, layers=24, heads=heads).module(21128, 77)
        shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 77), jnp.int32))
        assert sum(x.size for x in jax.tree.leaves(shapes)) == expected


def test_equals_torch_layers_with_the_same_weights():
    """torch.nn.TransformerEncoderLayer(norm_first=True, tanh GELU) on the embedded ids, then its
    LayerNorm.
    """
    torch = oracle("torch")
    module, params, apply = made()
    p = jax.tree.map(np.array, params["params"])
    x = torch.from_numpy(
        np.where((IDS != PAD)[..., None], p["table"][IDS], p["pad"]) + p["position"]
    )
    gelu = torch.nn.GELU(approximate="tanh")
    for i in range(2):
        q = jax.tree.map(lambda a, i=i: a[i], p["blocks"])
        layer = torch.nn.TransformerEncoderLayer(
            16, 2, 64, 0.0, gelu, 1e-6, batch_first=True, norm_first=True
        ).train()
        a, f = q["attention"], q["feed_forward"]
        weights = {
            "self_attn.in_proj_weight": a["qkv"].reshape(16, 48).T,
            "self_attn.in_proj_bias": a["qkv_bias"].reshape(48),
            "self_attn.out_proj.weight": a["out"].reshape(16, 16).T,
            "self_attn.out_proj.bias": a["out_bias"],
            "linear1.weight": f["mlp_in"]["kernel"].T,
            "linear1.bias": f["mlp_in"]["bias"],
            "linear2.weight": f["mlp_out"]["kernel"].T,
            "linear2.bias": f["mlp_out"]["bias"],
            "norm1.weight": q["LayerNorm_0"]["scale"],
            "norm1.bias": q["LayerNorm_0"]["bias"],
            "norm2.weight": q["LayerNorm_1"]["scale"],
            "norm2.bias": q["LayerNorm_1"]["bias"],
        }
        layer.load_state_dict(
            {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in weights.items()}
        )
        x = layer(x)
    last = {k: torch.from_numpy(v) for k, v in p["LayerNorm_0"].items()}
    x = torch.nn.functional.layer_norm(x, (16,), last["scale"], last["bias"], 1e-6).detach().numpy()
    states, pooled = apply(params, IDS)
    np.testing.assert_allclose(states, x, atol=1e-4)
    np.testing.assert_allclose(pooled, [x[0, :5].mean(0), x[1].mean(0)], atol=1e-4)


def test_order_matters_and_the_pad_row_does_not():
    module, params, apply = made(window=3, scan=False)
    states, pooled = apply(params, IDS)
    other, other_pooled = apply(params, IDS.at[0, 1].set(9).at[0, 2].set(7))
    assert (
        np.abs(other[0] - states[0]).max() > 1e-3
        and np.abs(other_pooled[0] - pooled[0]).max() > 1e-4
    )
    np.testing.assert_array_equal(other[1], states[1])
    table = params["params"]["table"].copy()
    table[PAD] = 5.0
    changed, _ = apply({"params": {**params["params"], "table": table}}, IDS)
    np.testing.assert_array_equal(changed, states)


def test_the_window_adds_the_ids_just_before():
    """With no blocks' help: a model of one block whose projections are zero puts out its normed
    embedding.
    """
    module, params, apply = made(window=2, layers=1)
    p = params["params"]
    p = {**p, "blocks": jax.tree.map(np.zeros_like, p["blocks"])}
    rows = p["table"][IDS[1]]
    expected = rows + p["position"]
    expected[1:] += p["before"][0] * rows[:-1]
    expected[2:] += p["before"][1] * rows[:-2]
    expected = (expected - expected.mean(-1, keepdims=True)) / np.sqrt(
        expected.var(-1, keepdims=True) + 1e-6
    )
    expected = expected * p["LayerNorm_0"]["scale"] + p["LayerNorm_0"]["bias"]
    np.testing.assert_allclose(apply({"params": p}, IDS)[0][1], expected, atol=1e-4)


def test_scan_bfloat16_remat_and_gradients():
    module, params, apply = made(qk_norm=True)
    other = made(qk_norm=True, scan=False, remat="full", dtype="bfloat16")[0]
    states, _ = apply(params, IDS)
    plain = made(qk_norm=True, scan=False)[2]
    np.testing.assert_allclose(plain(params, IDS)[0], states, atol=1e-4)
    gradient = jax.jit(jax.grad(lambda p: (other.apply(p, IDS)[0].astype(jnp.float32) ** 2).sum()))(
        params
    )
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    assert other.apply(params, IDS)[0].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [(dict(heads=3), "generator.text.heads=3"), (dict(window=8), "generator.text.window=8")],
)
def test_bad_fields_are_one_sentence(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        TextEncoderConfig(**{**dict(width=16, heads=2), **fields}).module(20, 8)
