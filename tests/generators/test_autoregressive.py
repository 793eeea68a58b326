"""The autoregressive generator and the controls of sampling."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vilg.generators.autoregressive import Autoregressive, empty_prompt, token_nll
from vilg.generators.guidance import Controls, choose, guide, restrict
from vilg.program import axes_of, unbox
from vilg.training.optimizer import Optimizer
from vilg.types import END, PAD, START, UserError

FIELDS = dict(
    image_vocabulary=16, grid=(3, 3), text_vocabulary=32, text_length=7, width=16, layers=2, heads=2
)


@pytest.fixture(scope="module")
def made():
    generator = Autoregressive(**FIELDS, embed_scale=1.0)
    return generator, unbox(jax.jit(generator.init)(jax.random.key(0)))


def prompts(n: int = 4) -> np.ndarray:
    text = np.random.default_rng(0).integers(5, 30, (n, 7)).astype(np.int32)
    text[:, 0], text[:, 5], text[:, 6] = START["en"], END, PAD
    return text


def sample(generator, params, text, keys, controls):
    return jax.jit(lambda p, t, k: generator.sample(p, t, k, controls))(params, text, keys)


def forward(generator, params, text, codes, method):
    return jax.jit(lambda p, t, c: generator.network.apply({"params": p}, t, c, method=method))(
        params, text, codes
    )


def paths(tree) -> list:
    return jax.tree_util.tree_flatten_with_path(unbox(tree))[0]


def keys(n: int) -> jax.Array:
    return jax.random.split(jax.random.key(1), n)


def test_a_prompts_picture_does_not_depend_on_its_batch_mates(made):
    generator, params = made
    text = prompts()
    for controls in (Controls(), Controls(guidance=2.5, temperature=0.7, top_k=5, top_p=0.9)):
        whole = sample(generator, params, text, keys(4), controls)
        alone = sample(generator, params, text[2:3], keys(4)[2:3], controls)
        np.testing.assert_array_equal(whole[2:3], alone)


def test_guidance_of_one_is_the_conditional_model(made):
    generator, params = made
    c, u = jax.random.normal(jax.random.key(0), (2, 3, 8))
    np.testing.assert_allclose(guide(c, u, 1.0), jax.nn.log_softmax(c), atol=1e-5)
    np.testing.assert_allclose(guide(c, u, 0.0), jax.nn.log_softmax(u), atol=1e-5)


def test_greedy_codes_are_the_arg_max_of_the_teacher_forced_logits(made):
    generator, params = made
    text = prompts()
    codes = sample(generator, params, text, keys(4), Controls(temperature=0.0)).reshape(4, -1)
    logits = forward(generator, params, text, codes, "image_given_text")
    np.testing.assert_array_equal(codes, logits.argmax(-1))


def test_greedy_captions_end_with_padding_and_score_their_likelihood(made):
    generator, params = made
    codes = np.random.default_rng(2).integers(0, 16, (3, 3, 3)).astype(np.int32)
    start = np.full((3,), START["zh"], np.int32)
    text, score = jax.jit(lambda *a: generator.caption(*a, Controls(temperature=0.0)))(
        params, codes, start, keys(3)
    )
    text = np.asarray(text)
    assert (text[:, 0] == START["zh"]).all()
    logits = forward(generator, params, text, codes.reshape(3, -1), "text_given_image")
    logits = np.array(logits)
    logits[..., PAD] = -np.inf
    for row, total in enumerate(np.asarray(score)):
        expected = 0.0
        for j in range(1, 7):
            if (text[row, 1:j] == END).any():
                assert text[row, j] == PAD
                continue
            assert text[row, j] == logits[row, j - 1].argmax()
            expected += logits[row, j - 1, text[row, j]] - np.log(np.exp(logits[row, j - 1]).sum())
        assert abs(total - expected) < 1e-4


def test_the_loss_is_the_mean_negative_log_likelihood_of_the_target_alone(made):
    generator, params = made
    generator = Autoregressive(**FIELDS, embed_scale=1.0, drop_text=0.0, image_to_text_weight=0.5)
    text, codes = prompts(), np.random.default_rng(1).integers(0, 16, (4, 3, 3)).astype(np.int32)
    loss, metrics = jax.jit(generator.loss)(
        params, {"text": text, "codes": codes}, jax.random.key(0), jnp.int32(0)
    )
    image, caption = forward(generator, params, text, codes.reshape(4, -1), "__call__")
    image = jax.nn.log_softmax(image)
    image = np.asarray(image)
    expected = -np.mean([image[b, k, c] for b in range(4) for k, c in enumerate(codes[b].ravel())])
    caption = jax.nn.log_softmax(caption)
    caption = np.asarray(caption)
    words = -np.mean(
        [caption[b, j - 1, text[b, j]] for b in range(4) for j in range(1, 7) if text[b, j] != PAD]
    )
    np.testing.assert_allclose(metrics["text_to_image"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["image_to_text"], words, rtol=1e-5)
    np.testing.assert_allclose(loss, expected + 0.5 * words, rtol=1e-5)
    nats = jax.jit(generator.log_likelihood)(params, text, codes)
    each = [sum(image[b, k, c] for k, c in enumerate(codes[b].ravel())) for b in range(4)]
    np.testing.assert_allclose(nats, each, rtol=1e-5)


def test_the_gradient_is_the_finite_difference(made):
    generator, params = made
    text, codes = (
        jnp.asarray(prompts()),
        jnp.asarray(np.random.default_rng(1).integers(0, 16, (4, 3, 3)), jnp.int32),
    )

    @jax.jit
    def loss(p):
        return generator.loss(p, {"text": text, "codes": codes}, jax.random.key(0), jnp.int32(0))[0]

    direction = jax.tree.map(lambda x: jax.random.normal(jax.random.key(x.size), x.shape), params)
    slope = sum(
        jnp.vdot(g, d)
        for g, d in zip(
            jax.tree.leaves(jax.grad(loss)(params)), jax.tree.leaves(direction), strict=True
        )
    )
    h = 1e-3
    ahead, behind = (
        loss(jax.tree.map(lambda p, d, s=s: p + s * h * d, params, direction)) for s in (1, -1)
    )
    np.testing.assert_allclose((ahead - behind) / (2 * h), slope, rtol=1e-2)


def test_the_empty_prompt_keeps_the_language():
    empty = np.asarray(empty_prompt(jnp.asarray(prompts())))
    assert (
        (empty[:, 0] == START["en"]).all()
        and (empty[:, 1] == END).all()
        and (empty[:, 2:] == PAD).all()
    )


def test_controls_restrict_what_can_be_drawn():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
    assert np.isfinite(restrict(logits, Controls(top_k=2))).sum() == 2
    assert np.isfinite(restrict(logits, Controls(top_p=0.6))).sum() == 2
    assert np.isfinite(restrict(logits, Controls(top_p=0.01))).sum() == 1
    np.testing.assert_allclose(restrict(logits, Controls(temperature=0.5)), logits / 0.5, rtol=1e-6)
    drawn = np.asarray(choose(jnp.tile(logits, (2000, 1)), keys(2000), jnp.int32(3), Controls()))
    np.testing.assert_allclose(
        np.bincount(drawn, minlength=4) / 2000, [0.5, 0.3, 0.15, 0.05], atol=0.04
    )
    for bad in (dict(temperature=-1.0), dict(top_p=0.0), dict(top_k=-1), dict(guidance=-0.1)):
        with pytest.raises(UserError, match=next(iter(bad))):
            Controls(**bad)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("heads", 3),
        ("layers", 0),
        ("caption_every", 0),
        ("drop_text", 1.0),
        ("patterns", "rows"),
        ("remat", "some"),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(UserError, match=field if field not in ("patterns",) else "rows"):
        Autoregressive(**(FIELDS | {field: value}))


def test_token_nll_is_the_cross_entropy():
    logits = jax.random.normal(jax.random.key(0), (2, 3, 5))
    targets = jnp.array([[0, 1, 2], [3, 4, 0]])
    expected = [
        [-jax.nn.log_softmax(logits[b, k])[targets[b, k]] for k in range(3)] for b in range(2)
    ]
    np.testing.assert_allclose(token_nll(logits, targets), np.asarray(expected), rtol=1e-5)


@pytest.fixture(scope="module", params=[False, True], ids=["own head", "tied"])
def from_codec(request):
    generator = Autoregressive(
        **FIELDS,
        code_width=4,
        code_embedding="codec",
        embed_scale=1.0,
        drop_text=0.0,
        tie=request.param,
    )
    params = unbox(jax.jit(generator.init)(jax.random.key(0)))
    vectors = (
        jax.random.normal(jax.random.key(1), (16, 4))
        .at[7]
        .set(jax.random.normal(jax.random.key(1), (16, 4))[3])
    )
    params = jax.jit(generator.with_code_vectors)(params, 5 + 3 * vectors)
    outer = {
        k: jax.random.normal(jax.random.key(2), x.shape)
        for k, x in params["codes"].items()
        if k.endswith("outer")
    }
    return generator, params | {"codes": params["codes"] | outer}, vectors


def test_codes_with_equal_vectors_have_rows_that_differ_by_their_own_part_only(from_codec):
    generator, params, vectors = from_codec
    plain = jax.jit(generator.plain)(params)
    own = params["embed"]["image_table"]
    rows = plain["embed"]["image_table"] - own
    np.testing.assert_allclose(rows[3], rows[7], atol=1e-5)
    assert np.abs(np.asarray(rows[3] - rows[4])).max() > 0.1
    if not generator.tie:
        columns = plain["image_head"] - params["image_head"]
        np.testing.assert_allclose(columns[:, 3], columns[:, 7], atol=1e-5)
    held = params["codes"]["vectors"]
    np.testing.assert_allclose(held.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(
        held, (vectors - vectors.mean(0)) / (vectors - vectors.mean(0)).std(), atol=1e-5
    )


def test_loss_and_samples_with_code_vectors_are_those_of_the_tables_they_stand_for(from_codec):
    generator, params, _ = from_codec
    table = dataclasses.replace(generator, code_embedding="table")
    plain = jax.jit(generator.plain)(params)
    assert {path for path, _ in paths(plain)} == {
        path for path, _ in paths(jax.eval_shape(table.init, jax.random.key(0)))
    }
    batch = {
        "text": jnp.asarray(prompts()),
        "codes": jax.random.randint(jax.random.key(2), (4, 3, 3), 0, 16),
    }
    (ours, _), (theirs, _) = (
        jax.jit(g.loss)(p, batch, jax.random.key(0), jnp.int32(0))
        for g, p in ((generator, params), (table, plain))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_array_equal(
        sample(generator, params, prompts(), keys(4), Controls()),
        sample(table, plain, prompts(), keys(4), Controls()),
    )


def test_the_part_from_code_vectors_begins_at_zero():
    generator = Autoregressive(**FIELDS, code_width=4, code_embedding="codec")
    params = unbox(jax.jit(generator.init)(jax.random.key(0)))
    np.testing.assert_array_equal(
        jax.jit(generator.plain)(params)["image_head"], params["image_head"]
    )


def test_training_moves_the_perceptrons_and_leaves_the_vectors(from_codec):
    generator, params, _ = from_codec
    boxed = jax.eval_shape(generator.init, jax.random.key(0))
    batch = {
        "text": jnp.asarray(prompts()),
        "codes": jax.random.randint(jax.random.key(2), (4, 3, 3), 0, 16),
    }
    for kind in ("muon", "adamw"):
        optimizer = Optimizer(kind=kind, learning_rate=0.1, warmup_steps=0, weight_decay=0.5).build(
            3, axes_of(boxed), generator.labels(params)
        )

        def update(p, optimizer=optimizer):
            grads = jax.grad(
                lambda p: generator.loss(p, batch, jax.random.key(0), jnp.int32(0))[0]
            )(p)
            updates, _ = optimizer.update(grads, optimizer.init(p), p)
            return optax.apply_updates(p, updates)

        moved = jax.jit(update)(params)
        still = [
            jax.tree_util.keystr(path)
            for path, x in paths(moved)
            if np.array_equal(x, dict(paths(params))[path])
        ]
        assert still == ["['codes']['vectors']"]


def test_code_vectors_need_a_codec_that_has_some():
    with pytest.raises(UserError, match="generator.code_embedding='codec'"):
        Autoregressive(**FIELDS, code_embedding="codec")
