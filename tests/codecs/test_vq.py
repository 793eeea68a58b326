"""VQ as a whole: the protocols, the loss it reports, its warm-up, its patch-local architecture,
learning, and the gate.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from vilg.codecs import CODECS, base
from vilg.config import build
from vilg.types import Codec, Model, Trainable, UserError

KEY = jax.random.key(0)
PATCH = {"name": "patch", "patch": 4, "width": 32, "depth": 1, "channels": 8, "output_size": 1}
CONVOLUTIONAL = {
    "name": "convolutional",
    "channels": 8,
    "multipliers": (1, 1, 2),
    "blocks": 1,
    "attention_at": (4,),
    "latent_channels": 8,
}
CONVOLUTIONAL["groups"] = 4


def codec(architecture=PATCH, **more):
    return build(
        CODECS["vq"],
        {"image_size": 16, "vocabulary": 16, "code_width": 4, "architecture": architecture, **more},
        "codec",
    )


def started(codec, n=4):
    batch = {
        "image": jnp.asarray(np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3)), jnp.uint8)
    }
    return nn.meta.unbox(jax.jit(codec.init)(KEY)), batch


@pytest.mark.parametrize("quantizer", ["nearest", "gumbel"])
@pytest.mark.parametrize("architecture", [PATCH, CONVOLUTIONAL])
def test_every_vq_keeps_the_protocols(architecture, quantizer):
    vq = codec(
        architecture,
        quantizer={"name": quantizer},
        discriminator={"weight": 0.5, "width": 16, "layers": 2, "groups": 8},
    )
    assert isinstance(vq, Codec) and isinstance(vq, Trainable) and isinstance(vq, Model)
    boxes = jax.tree.leaves(
        jax.eval_shape(vq.init, KEY), is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
    )
    assert all(
        isinstance(b, nn.LogicallyPartitioned) and len(b.names) == b.value.ndim for b in boxes
    )
    params, batch = started(vq)
    loss, metrics = jax.jit(vq.loss)(params, batch, KEY, jnp.int32(0))
    observed = metrics.pop("observed")
    assert loss.dtype == jnp.float32 and all(
        m.shape == () and m.dtype == jnp.float32 and jnp.isfinite(m) for m in metrics.values()
    )
    assert observed["latents"].shape == (64, 4) and observed["counts"].sum() == 64
    images, encode, decode = base.to_unit(batch["image"]), jax.jit(vq.encode), jax.jit(vq.decode)
    codes = encode(params, images)
    assert codes.shape == (4, *vq.grid) and codes.dtype == jnp.int32
    decoded = decode(params, codes)
    assert (
        decoded.shape == images.shape
        and decoded.dtype == jnp.float32
        and float(jnp.max(jnp.abs(decoded))) <= 1
    )
    without = {k: v for k, v in params.items() if k != "discriminator"}
    assert np.array_equal(encode(without, images), codes) and np.array_equal(
        decode(without, codes), decoded
    )


def test_the_loss_is_the_sum_of_its_weighted_terms_and_psnr_is_numpys():
    vq = codec(l1=0.5, l2=2.0, codebook_weight=3.0)
    params, batch = started(vq)
    loss, metrics = vq.loss(params, batch, KEY, jnp.int32(0))
    images = base.to_unit(batch["image"])
    decoded = np.asarray(
        vq._to_image(
            params["output"],
            vq._features(params, params["quantizer"]["codebook"][vq.encode(params, images)]),
        )
    )
    l1, l2 = (
        float(x)
        for x in (0.5 * np.abs(decoded - images).mean(), 2.0 * ((decoded - images) ** 2).mean())
    )
    assert float(metrics["l1"]) == pytest.approx(l1, rel=1e-4) and float(
        metrics["l2"]
    ) == pytest.approx(l2, rel=1e-4)
    assert float(loss) == pytest.approx(l1 + l2 + 3.0 * float(metrics["codebook_loss"]), rel=1e-4)
    error = (((np.clip(decoded, -1, 1) + 1) / 2 - np.asarray(batch["image"]) / 255) ** 2).mean()
    assert float(metrics["psnr"]) == pytest.approx(-10 * np.log10(error), rel=1e-3)


def test_while_the_autoencoder_warms_up_there_is_no_quantization():
    vq = codec(autoencoder_warmup=5)
    params, batch = started(vq)
    gradient = jax.jit(jax.value_and_grad(vq.loss, has_aux=True))
    (loss, metrics), during = gradient(params, batch, KEY, jnp.int32(4))
    other = {**params, "quantizer": {"codebook": params["quantizer"]["codebook"] + 3.0}}
    assert float(gradient(other, batch, KEY, jnp.int32(4))[0][0]) == float(loss)
    assert not np.any(during["quantizer"]["codebook"]) and np.any(
        during["encoder"]["latents"]["kernel"]
    )
    assert metrics["observed"]["counts"].sum() == 0 and metrics["codebook_loss"] == 0
    raw = vq._to_image(
        params["output"], vq._features(params, vq.latents(params, base.to_unit(batch["image"])))
    )
    assert float(loss) == pytest.approx(
        float(jnp.mean(jnp.abs(raw - base.to_unit(batch["image"])))), rel=1e-5
    )
    (_, metrics), after = gradient(params, batch, KEY, jnp.int32(5))
    assert np.any(after["quantizer"]["codebook"]) and metrics["observed"]["counts"].sum() == 64


def test_a_code_depends_on_its_own_patch_alone_and_a_patch_on_its_code():
    vq = codec()
    params, batch = started(vq)
    images = base.to_unit(batch["image"][:1])
    footprint = jax.grad(lambda x: jnp.sum(vq.latents(params, x)[0, 1, 2]))(images)[0]
    inside = np.zeros((16, 16), bool)
    inside[4:8, 8:12] = True
    assert np.any(footprint[inside]) and not np.any(footprint[~inside])
    embeddings = jax.random.normal(KEY, (1, 4, 4, 4))
    picture = lambda e: vq._to_image(params["output"], vq._features(params, e))  # noqa: E731
    moved = np.any(
        np.asarray(picture(embeddings) != picture(embeddings.at[0, 1, 2].add(1.0))), axis=-1
    )[0]
    assert moved[inside].all() and not moved[~inside].any()


@pytest.mark.parametrize("more", [{"context": 1}, {"refinements": 1}, {"output_size": 3}])
def test_every_option_of_the_patch_decoder_lets_neighbours_in(more):
    vq = codec({**PATCH, **more})
    params, _ = started(vq)
    embeddings = jax.random.normal(KEY, (1, 4, 4, 4))
    picture = lambda e: vq._to_image(params["output"], vq._features(params, e))  # noqa: E731
    moved = np.any(
        np.asarray(picture(embeddings) != picture(embeddings.at[0, 1, 2].add(1.0))), axis=-1
    )[0]
    assert moved[3, 8] and moved[8, 11]


def test_bfloat16_computes_in_bfloat16_with_float32_parameters_and_loss():
    vq, exact = codec(dtype="bfloat16"), codec()
    params, batch = started(vq)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))
    loss, _ = vq.loss(params, batch, KEY, jnp.int32(0))
    reference, _ = exact.loss(params, batch, KEY, jnp.int32(0))
    assert loss.dtype == jnp.float32 and 0 < abs(float(loss - reference)) < 0.05 * float(reference)
    assert vq._features(params, jnp.zeros((1, 4, 4, 4))).dtype == jnp.bfloat16


def test_observed_latents_are_at_most_a_bank_and_come_from_the_batch():
    vq = codec(bank=10)
    params, batch = started(vq)
    _, metrics = vq.loss(params, batch, KEY, jnp.int32(0))
    latents = np.asarray(vq.latents(params, base.to_unit(batch["image"]))).reshape(-1, 4)
    seen = np.asarray(metrics["observed"]["latents"])
    assert seen.shape == (10, 4) and len(np.unique(seen, axis=0)) == 10
    assert all(np.isclose(latents, s, atol=1e-6).all(-1).any() for s in seen)


@pytest.mark.parametrize(
    ("quantizer", "gain", "used"), [("nearest", 10.0, 8), ("gumbel", 2.0, 4)]
)  # gumbel's noise is slow to settle
def test_it_learns_a_few_patches_and_uses_as_many_codes(quantizer, gain, used):
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (8, 1, 1, 3)).repeat(4, 1).repeat(4, 2)
    pictures = (
        patches[rng.integers(0, 8, (64, 4, 4))]
        .transpose(0, 1, 3, 2, 4, 5)
        .reshape(64, 16, 16, 3)
        .astype(np.uint8)
    )
    vq = codec(quantizer={"name": quantizer}, autoencoder_warmup=40, revive_after=20, bank=256)
    params, state = started(vq)[0], vq.init_statistics()
    tx = optax.adam(3e-3)

    @jax.jit
    def update(params, optimizer, state, images, step):
        key = jax.random.fold_in(KEY, step)
        (_, metrics), gradient = jax.value_and_grad(vq.loss, has_aux=True)(
            params, {"image": images}, key, step
        )
        observed = jax.tree.map(lambda x: x[None], metrics.pop("observed"))
        change, optimizer = tx.update(gradient, optimizer, params)
        params, state, more = vq.after_update(
            optax.apply_updates(params, change), state, observed, key, step
        )
        return params, optimizer, state, {**metrics, **more}

    optimizer = tx.init(params)
    for step in range(200):
        params, optimizer, state, _ = update(
            params, optimizer, state, pictures[step % 4 * 16 :][:16], jnp.int32(step)
        )
    images = base.to_unit(jnp.asarray(pictures))
    codes = jax.jit(vq.encode)(params, images)
    error = jnp.mean(jnp.square(jax.jit(vq.decode)(params, codes) - images))
    assert base.psnr(error) > base.psnr(jnp.var(images)) + gain, (
        "the mean colour is no reconstruction"
    )
    assert (
        len(np.unique(codes)) >= used and base.perplexity(base.count_codes(codes, 16)) > 0.6 * used
    )


def test_bytes_round_trip_through_the_unit_range():
    every = jnp.arange(256, dtype=jnp.uint8)[None, :, None, None].repeat(3, -1)
    assert np.array_equal(base.to_bytes(base.to_unit(every)), every)
    assert base.to_unit(every).min() == -1 and base.to_unit(every).max() == 1
    assert base.to_bytes(jnp.full((1, 1, 1, 3), 7.0)).max() == 255


def test_the_gate_names_the_score_and_the_floor():
    base.check_floors({"psnr": 30.0, "codebook_usage": 0.6}, {"codebook_usage": 0.6})
    with pytest.raises(UserError, match="codec.floors.codebook_usage=0.6: the codec reaches 0.5"):
        base.check_floors({"codebook_usage": 0.5}, {"codebook_usage": 0.6})
    with pytest.raises(UserError, match="reaches nan"):
        base.check_floors({"psnr": float("nan")}, {"psnr": 20.0})
    with pytest.raises(UserError, match="two_objects"):
        base.check_floors({"psnr": 30.0}, {"two_objects": 0.99})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"image_size": 18}, "multiple of the codec's factor 4"),
        ({"vocabulary": 1}, "codec.vocabulary=1"),
        ({"vocabulery": 8}, "did you mean codec.vocabulary"),
        ({"l1": 0.0}, "both 0"),
        ({"bank": 0}, "codec.bank=0"),
        ({"architecture": {"name": "pach"}}, "did you mean 'patch'"),
        ({"architecture": {"name": "patch", "wdth": 3}}, "unknown field of Patch"),
        ({"architecture": {"name": "convolutional", "channels": 24}}, "must divide channels=24"),
        ({"architecture": {**CONVOLUTIONAL, "attention_at": (5,)}}, "no level of 16 px has size"),
        ({"quantizer": {"name": "nearset"}}, "did you mean 'nearest'"),
        ({"dtype": "float16"}, "codec.dtype"),
    ],
)
def test_mistakes_are_named(section, message):
    with pytest.raises(UserError, match=message):
        codec(**section)
