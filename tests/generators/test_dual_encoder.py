"""The dual encoder: its loss against sums written out, the scale's limit, features, and one step
under layouts.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import tiny_ranker
from vilg.experiment import build_experiment
from vilg.generators.dual_encoder import contrast, equal_texts
from vilg.parallel.axes import unbox
from vilg.parallel.layouts import parse_layout
from vilg.run.verify.step import Inputs, Step, compared
from vilg.types import Embedder, Generator, Ranker, Trainable, UserError


@pytest.fixture(scope="module")
def ranker():
    return build_experiment(tiny_ranker()).model


@pytest.fixture(scope="module")
def params(ranker):
    return unbox(jax.jit(ranker.init)(jax.random.key(0)))


@pytest.fixture(scope="module")
def batch(ranker):
    rng = np.random.default_rng(0)
    text = rng.integers(5, 300, (16, ranker.text_length)).astype(np.int32)
    text[:, 0], text[:, 6], text[:, 7:] = 2, 4, 0
    text[9] = text[1]
    codes = rng.normal(size=(16, *ranker.grid, ranker.latent_channels)).astype(np.float32)
    return {"text": jnp.asarray(text), "codes": jnp.asarray(codes)}


def by_hand(logits, texts):
    """InfoNCE of both directions in plain loops: equal texts leave each other's sums."""
    n, losses = len(logits), ([], [])
    for i in range(n):
        for direction, row in enumerate((logits[i], logits[:, i])):
            kept = [row[j] for j in range(n) if j == i or texts[j] != texts[i]]
            losses[direction].append(-np.log(np.exp(row[i]) / np.sum(np.exp(kept))))
    return [float(np.mean(one)) for one in losses]


def test_the_loss_is_infonce_without_equal_texts_among_the_negatives():
    logits = np.random.default_rng(1).normal(size=(6, 6)).astype(np.float32) * 3
    text = np.array([[1, 2], [3, 4], [1, 2], [1, 4], [5, 6], [1, 2]], np.int32)
    found = contrast(jnp.asarray(logits), equal_texts(jnp.asarray(text)))
    np.testing.assert_allclose(found[:2], by_hand(logits, [tuple(row) for row in text]), rtol=1e-6)
    assert not np.allclose(found[:2], by_hand(logits, range(6)), rtol=1e-3), (
        "equal texts change these sums"
    )


def test_matched_counts_pairs_that_beat_every_other_row():
    logits = jnp.array([[3.0, 1.0, 1.0], [1.0, 2.0, 4.0], [0.0, 0.0, 5.0]])
    assert float(contrast(logits, jnp.eye(3, dtype=bool))[2]) == pytest.approx(2 / 3)
    same = jnp.array([[True, False, False], [False, True, True], [False, True, True]])
    assert float(contrast(logits, same)[2]) == 1.0


def test_a_batch_of_one_text_has_nothing_to_tell_apart():
    def loss(x):
        to_text, to_image, _ = contrast(x, jnp.ones((4, 4), bool))
        return to_text + to_image

    value, gradient = jax.value_and_grad(loss)(jnp.arange(16.0).reshape(4, 4))
    assert float(value) == 0 and np.all(np.asarray(gradient) == 0)


def test_the_loss_compares_the_scaled_cosines_of_a_batch(ranker, params, batch):
    images, texts = jax.jit(
        lambda p, b: (ranker.embed_images(p, b["codes"]), ranker.embed_texts(p, b["text"]))
    )(params, batch)
    loss, metrics = jax.jit(ranker.loss)(params, batch, jax.random.key(0), jnp.int32(0))
    wanted = by_hand(
        ranker.first_scale * np.asarray(images) @ np.asarray(texts).T,
        [tuple(row) for row in np.asarray(batch["text"]).tolist()],
    )
    np.testing.assert_allclose(
        [metrics["image_to_text"], metrics["text_to_image"]], wanted, rtol=1e-4
    )
    assert float(loss) == pytest.approx(np.mean(wanted), rel=1e-4)


def test_the_scale_stops_at_100_and_can_come_down_again(ranker, params):
    above = params | {"log_scale": jnp.float32(7.0)}
    scale, gradient = jax.value_and_grad(lambda s: ranker.scale(above | {"log_scale": s}))(
        jnp.float32(7.0)
    )
    assert float(scale) == pytest.approx(100, rel=1e-5) and float(gradient) == pytest.approx(
        100, rel=1e-5
    )
    assert float(ranker.scale(params)) == pytest.approx(ranker.first_scale, rel=1e-5)


def test_agreement_is_the_scaled_cosine_and_ranks_alike_at_every_scale(ranker, params, batch):
    images, texts = jax.jit(
        lambda p, b: (ranker.embed_images(p, b["codes"]), ranker.embed_texts(p, b["text"]))
    )(params, batch)
    agreement = jax.jit(ranker.agreement)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)
    plain = np.asarray(agreement(params, batch["text"], batch["codes"]))
    np.testing.assert_allclose(
        plain, ranker.first_scale * np.sum(np.asarray(images * texts), 1), rtol=1e-4, atol=1e-5
    )
    sharper = np.asarray(
        agreement(params | {"log_scale": params["log_scale"] + 1}, batch["text"], batch["codes"])
    )
    assert np.array_equal(np.argsort(plain), np.argsort(sharper)) and not np.allclose(
        plain, sharper
    )


def test_what_a_picture_is_depends_on_where_things_are(ranker, params, batch):
    codes, embed = batch["codes"], jax.jit(ranker.embed_images)
    assert (
        np.abs(
            np.asarray(embed(params, codes[:, :, ::-1])) - np.asarray(embed(params, codes))
        ).max()
        > 1e-3
    )


def test_it_is_a_ranker_and_no_generator(ranker):
    assert (
        isinstance(ranker, Trainable)
        and isinstance(ranker, Ranker)
        and isinstance(ranker, Embedder)
    )
    assert not isinstance(ranker, Generator)


@pytest.fixture(scope="module")
def one_device(batch):
    experiment = build_experiment(tiny_ranker(generator__image__heads=8, generator__text__heads=8))
    inputs = Inputs(experiment.config)
    inputs.batch = {k: np.asarray(v) for k, v in batch.items()}
    return experiment, inputs, Step(experiment, inputs, parse_layout("dp"), jax.devices()[:1])


@pytest.mark.parametrize("layout", ["fsdp", "fsdp_tp"])
def test_every_layout_compares_the_whole_batch(one_device, layout):
    experiment, inputs, alone = one_device
    other = Step(experiment, inputs, parse_layout(layout), jax.devices()[:8])
    row = compared(alone, other, "float32")
    assert row["loss_error"] <= 1e-5 and row["gradient_error"] <= 1e-5, row
    assert other.collectives and (other.sharded_fraction > 0.5) == bool(parse_layout(layout).params)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(generator__first_scale=101.0), "generator.first_scale=101.0: must lie in"),
        (dict(generator__projection=0), "generator.projection=0"),
        (dict(generator__image__patch=3), r"must be multiples of 3 for generator.image.patch=3"),
        (
            dict(generator__image__heads=5),
            "generator.image.heads=5: must divide generator.image.width=32",
        ),
        (
            dict(training__accumulation=2),
            "training.accumulation=2: this model's loss compares all rows of a batch",
        ),
        (dict(training__sample_every=5), "training.sample_every=5: a ranker samples no pictures"),
        (dict(evals={"scenes": {"n": 2}}), "evals.scenes (captions|samples)"),
        (
            dict(evals={"twins": {"n": 32}}),
            "evals.twins samples pictures, which 'dual_encoder' cannot",
        ),
        (dict(generator__name="dual_encode"), "did you mean 'dual_encoder'"),
    ],
)
def test_contradictions_are_one_sentence(changes, words):
    with pytest.raises(UserError, match=words):
        build_experiment(tiny_ranker(**changes))
