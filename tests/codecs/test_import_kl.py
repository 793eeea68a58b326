"""Published KL autoencoders: counts at full size, every number at reduced width against diffusers'
AutoencoderKL, what is refused.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.oracles import oracle
from vilg.codecs import CODECS, import_kl, import_taming
from vilg.config import build
from vilg.experiment import build_experiment
from vilg.experiment_file import load_config
from vilg.types import UserError

torch, diffusers = oracle("torch"), oracle("diffusers")


def published(widths=(16, 32, 32), blocks=1, groups=8):
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=blocks,
        norm_num_groups=groups,
        latent_channels=4,
    )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = published().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(float("norm" in name and name.endswith("weight")), 0.15)
    return model


@pytest.fixture(scope="module")
def state(model):
    return {k: v.numpy() for k, v in model.state_dict().items()}


def codec(**more):
    architecture = dict(
        name="convolutional",
        channels=16,
        multipliers=(1, 2, 2),
        blocks=1,
        attention_at=(),
        latent_channels=4,
        groups=8,
    )
    return build(
        CODECS["kl"],
        {"image_size": 32, "latent_channels": 4, "architecture": {**architecture, **more}},
        "codec",
    )


def test_kl_f8_has_the_published_size_names_and_shapes():
    vae = build_experiment(load_config("experiments/tokenizer.py:kl_f8")).model
    shapes = nn.meta.unbox(jax.eval_shape(vae.init, jax.random.key(0)))
    assert (
        sum(x.size for k, v in shapes.items() if k != "discriminator" for x in jax.tree.leaves(v))
        == 83_653_863
    )
    assert vae.grid == (32, 32) and vae.latent_channels == 4
    with torch.device("meta"):
        oracle = published((128, 256, 512, 512), 2, 32).state_dict()
    assert sum(x.numel() for x in oracle.values()) == 83_653_863
    shape = {
        name: (*x.shape, 1, 1) if ".to_" in name and x.ndim == 2 else tuple(x.shape)
        for name, x in oracle.items()
    }
    names = list(oracle)
    numbered = import_kl.compvis(vae, {name: np.asarray(i) for i, name in enumerate(names)})
    assert {ours: shape[names[int(i)]] for ours, i in numbered.items()} == {
        n: s for n, (_, s) in import_taming.expected(vae).items()
    }


def test_an_import_computes_what_diffusers_computes(model, state):
    vae = codec()
    params = jax.tree.map(jnp.asarray, import_kl.convert(vae, state))
    x = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        posterior = model.encode(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).latent_dist
        decoded = model.decode(posterior.mean).sample
    mean, log_variance = jax.jit(vae.posterior)(params, jnp.asarray(x))
    np.testing.assert_allclose(mean, posterior.mean.permute(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(log_variance, posterior.logvar.permute(0, 2, 3, 1), atol=1e-4)
    raw = jax.jit(lambda p, z: vae._to_image(p["output"], vae._features(p, z)))(params, mean)
    np.testing.assert_allclose(raw, decoded.permute(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(
        jax.jit(vae.from_latents)(params, mean), decoded.clamp(-1, 1).permute(0, 2, 3, 1), atol=1e-4
    )
    assert (
        float(mean.std()) > 0.1
        and float(log_variance.std()) > 0.1
        and 0.1 < float(decoded.std()) < 10
    ), "numbers that can differ"


def test_compvis_names_older_diffusers_names_and_files_are_read_too(state, tmp_path):
    vae = codec()
    wanted = import_kl.convert(vae, state)
    theirs = import_kl.compvis(vae, state)
    assert "encoder.mid.attn_1.q.weight" in theirs and "decoder.up.2.upsample.conv.weight" in theirs
    wrapped = {f"first_stage_model.{k}": v for k, v in theirs.items()} | {
        "model.diffusion_model.out.0.weight": np.zeros(3)
    }
    older = {
        k.replace("to_q", "query").replace("to_out.0", "proj_attn"): v for k, v in state.items()
    }
    np.savez(tmp_path / "vae.npz", **state)
    for params in (
        import_kl.convert(vae, wrapped),
        import_kl.convert(vae, older),
        import_kl.load(vae, str(tmp_path / "vae.npz")),
    ):
        assert all(
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(params), strict=True)
        )


def test_what_does_not_fit_is_refused_by_name(state):
    with pytest.raises(UserError, match="missing decoder.up.0.block.2.conv1.bias"):
        import_kl.convert(codec(blocks=2), state)
    with pytest.raises(
        UserError, match=r"quant_conv.weight has shape \(6, 8, 1, 1\), expected \(8, 8, 1, 1\)"
    ):
        import_kl.convert(codec(), {**state, "quant_conv.weight": np.zeros((6, 8, 1, 1))})
    with pytest.raises(UserError, match='needs name="convolutional"'):
        import_kl.convert(
            build(CODECS["kl"], {"image_size": 32, "latent_channels": 4}, "codec"), state
        )
