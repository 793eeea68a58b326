"""The published VQGAN: counts at full size, every number at reduced width against torch, and what
an import refuses.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.oracles import oracle
from vilg.codecs import CODECS, import_taming
from vilg.codecs.blocks import downsample
from vilg.config import build
from vilg.types import UserError

torch, torch_vqgan = oracle("torch"), oracle("tests.codecs.torch_vqgan")

SMALL = dict(channels=32, multipliers=(1, 1, 2), blocks=2, attention_at=(8,), latent_channels=24)


def small_codec(kind="gumbel", **more):
    section = {
        "image_size": 32,
        "vocabulary": 64,
        "code_width": 16,
        "architecture": {"name": "convolutional", **SMALL},
    }
    return build(CODECS["vq"], {**section, "quantizer": {"name": kind}, **more}, "codec")


def published(kind="gumbel", seed=0):
    model = torch_vqgan.VQGAN(kind, 32, (1, 1, 2), 2, (8,), 32, 24, 16, 64)
    return torch_vqgan.randomize(model, seed).eval()


def images(n=2, size=32, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, size, size, 3)).astype(np.float32)


def state(model):
    return {k: v.numpy() for k, v in model.state_dict().items()}


def to_torch(x):
    return torch.from_numpy(np.ascontiguousarray(np.asarray(x).transpose(0, 3, 1, 2)))


def full(kind="gumbel", **more):
    section = {
        "image_size": 256,
        "vocabulary": 8192,
        "code_width": 256,
        "architecture": {"name": "convolutional"},
    }
    return build(CODECS["vq"], {**section, "quantizer": {"name": kind}, **more}, "codec")


def test_the_paper_codec_has_the_published_size():
    codec = full(discriminator={"weight": 0.8})
    shapes = nn.meta.unbox(jax.eval_shape(codec.init, jax.random.key(0)))
    assert (
        sum(x.size for k, v in shapes.items() if k != "discriminator" for x in jax.tree.leaves(v))
        == 68_995_971
    )
    layout = import_taming.expected(codec)
    assert len(layout) == 301
    assert codec.grid == (32, 32)


def test_the_paper_codec_has_the_published_names_and_shapes():
    with torch.device("meta"):
        oracle = torch_vqgan.VQGAN(
            "gumbel", 128, (1, 1, 2, 4), 2, (32,), 256, 256, 256, 8192
        ).state_dict()
    layout = {name: shape for name, (_, shape) in import_taming.expected(full()).items()}
    assert layout == {name: tuple(x.shape) for name, x in oracle.items()}
    assert layout["quantize.proj.weight"] == (8192, 256, 1, 1) and layout[
        "encoder.down.3.block.0.nin_shortcut.weight"
    ] == (512, 256, 1, 1)


@pytest.mark.parametrize("kind", ["gumbel", "nearest"])
def test_an_import_computes_what_torch_computes(kind):
    codec, model = small_codec(kind), published(kind)
    params, x = jax.tree.map(jnp.asarray, import_taming.convert(codec, state(model))), images()
    with torch.no_grad():
        latents = model.latents(to_torch(x))
        codes = model.codes(latents)
        decoded = model.paint(model.embeddings(codes))
    ours = codec.latents(params, jnp.asarray(x))
    np.testing.assert_allclose(ours, latents.permute(0, 2, 3, 1), atol=1e-4)
    assert (np.asarray(codec.encode(params, jnp.asarray(x))) == codes.numpy()).all()
    assert len(np.unique(codes)) > 8, "too few codes to tell"
    np.testing.assert_allclose(
        codec.decode(params, jnp.asarray(codes.numpy())),
        decoded.clamp(-1, 1).permute(0, 2, 3, 1),
        atol=1e-4,
    )
    raw = codec._to_image(
        params["output"],
        codec._features(
            params, codec.quantizer.lookup(params["quantizer"], jnp.asarray(codes.numpy()))
        ),
    )
    np.testing.assert_allclose(raw, decoded.permute(0, 2, 3, 1), atol=1e-4)


def test_attention_is_placed_by_the_configured_size_not_the_actual_one():
    codec, model = small_codec(), published()
    params, x = import_taming.convert(codec, state(model)), images(1, 64)
    with torch.no_grad():
        expected = model.latents(to_torch(x)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(codec.latents(params, jnp.asarray(x)), expected, atol=1e-4)


def test_downsampling_pads_only_the_bottom_and_the_right():
    x = jnp.asarray(images(1, 8))
    kernel = jnp.zeros((3, 3, 3, 3)).at[1, 1].set(jnp.eye(3))
    y = downsample(3, "down").apply({"params": {"kernel": kernel, "bias": jnp.zeros(3)}}, x)
    np.testing.assert_array_equal(
        y, x[:, 1::2, 1::2]
    )  # symmetric padding would pick 0::2: a shifted picture


def test_training_losses_are_ignored_and_prefixes_stripped():
    codec, plain = small_codec(), state(published())
    wrapped = {f"first_stage_model.{k}": v for k, v in plain.items()}
    wrapped["first_stage_model.loss.discriminator.main.0.weight"] = np.zeros(3, np.float32)
    wrapped["transformer.head.weight"] = np.zeros(3, np.float32)
    a, b = import_taming.convert(codec, plain), import_taming.convert(codec, wrapped)
    assert all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
    shapes = nn.meta.unbox(jax.eval_shape(codec.init, jax.random.key(0)))
    assert jax.tree.map(np.shape, a) == jax.tree.map(lambda s: s.shape, shapes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("quant_conv.bias"), "missing quant_conv.bias"),
        (
            lambda s: s.update({"encoder.extra.weight": np.zeros(1)}),
            "unexpected encoder.extra.weight",
        ),
        (
            lambda s: s.update({"decoder.conv_out.bias": np.zeros(4)}),
            r"decoder.conv_out.bias has shape \(4,\), expected \(3,\)",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(change, message):
    wrong = state(published())
    change(wrong)
    with pytest.raises(UserError, match=message):
        import_taming.convert(small_codec(), wrong)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".npz"])
def test_checkpoints_are_read_from_every_kind_of_file(tmp_path, suffix):
    model, path = published(), str(tmp_path / f"model{suffix}")
    if suffix == ".ckpt":
        torch.save({"state_dict": model.state_dict(), "epoch": 3}, path)
    elif suffix == ".npz":
        np.savez(path, **state(model))
    else:
        from safetensors.torch import save_file

        save_file(model.state_dict(), path)
    params = import_taming.load(small_codec(), path)
    np.testing.assert_array_equal(params["output"]["bias"], model.decoder.conv_out.bias.detach())


class Trojan:
    ran = False

    def __reduce__(self):
        return (setattr, (Trojan, "ran", True))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = str(tmp_path / "bad.ckpt")
    torch.save({"state_dict": Trojan()}, path)
    with pytest.raises(UserError, match="convert it to .safetensors"):
        import_taming.load(small_codec(), path)
    assert not Trojan.ran


def test_files_that_are_not_there_or_not_weights(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        import_taming.load(small_codec(), str(tmp_path / "none.ckpt"))
    (tmp_path / "a.pkl").write_bytes(b"x")
    with pytest.raises(UserError, match="unknown kind of file"):
        import_taming.load(small_codec(), str(tmp_path / "a.pkl"))


def test_only_the_published_architecture_can_be_imported():
    codec = build(CODECS["vq"], {"image_size": 32, "vocabulary": 64, "code_width": 16}, "codec")
    with pytest.raises(UserError, match="convolutional"):
        import_taming.convert(codec, {})
