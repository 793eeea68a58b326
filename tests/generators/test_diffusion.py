"""The diffusion generator: experts own slices of time, knowledge is a weight, sampling is one
denoiser's work whatever n is.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vilg.config import build
from vilg.generators.diffusion import Diffusion
from vilg.parallel.axes import AXES
from vilg.processes.splits import expert_of
from vilg.program import is_box, unbox
from vilg.types import Generator, NoiseConditional, Ranker, Stepwise, Trainable, UserError

GIVEN = dict(
    image_vocabulary=32,
    grid=(4, 4),
    code_width=6,
    latent_channels=3,
    text_vocabulary=300,
    text_length=8,
)
GAUSSIAN = dict(
    name="gaussian",
    schedule=dict(name="log_linear", sigma_min=0.05, sigma_max=20.0),
    prediction="x0",
    times=dict(name="uniform"),
)


def generator(**changes) -> Diffusion:
    section = dict(
        process=GAUSSIAN,
        denoiser=dict(
            name="dit", width=16, layers=1, heads=2, embed_scale=0.5, zero_gates=False, scan=False
        ),
        text=dict(width=16, layers=1, heads=2, scan=False),
    )
    return build(Diffusion, section | changes, "generator", **GIVEN)


def parameters(g: Diffusion, seed: int = 0):
    """Parameters that no zero initialisation hides."""
    params, rng = unbox(jax.jit(g.init)(jax.random.key(seed))), np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: x + jnp.asarray(0.1 * rng.normal(size=x.shape), jnp.float32), params
    )


def loss(g: Diffusion, params, data: dict, key=None):
    """The loss, compiled."""
    return jax.jit(lambda p, d, k: g.loss(p, d, k, jnp.int32(0)))(
        params, data, jax.random.key(0) if key is None else key
    )


def sample(g: Diffusion, params, text, keys, **given):
    """Codes, compiled."""
    controls = g.controls(given)
    return np.asarray(jax.jit(lambda p, t, k: g.sample(p, t, k, controls))(params, text, keys))


def batch(b: int = 8, ids: bool = False) -> dict:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 32, (b, 4, 4)) if ids else rng.normal(size=(b, 4, 4, 3))
    text = rng.integers(5, 300, (b, 8)).astype(np.int32)
    return {
        "text": jnp.asarray(text),
        "codes": jnp.asarray(codes, jnp.int32 if ids else jnp.float32),
    }


def test_it_is_what_the_protocols_say():
    g = generator()
    assert all(isinstance(g, p) for p in (Trainable, Generator, Stepwise, Ranker, NoiseConditional))
    boxes = jax.tree.leaves(
        jax.eval_shape(generator(experts=dict(n=2)).init, jax.random.key(0)), is_leaf=is_box
    )
    assert all(is_box(b) and set(b.names) <= AXES | {None} for b in boxes)
    assert any("expert" in b.names for b in boxes)


def test_an_expert_learns_from_its_own_slice_of_time_only():
    g = generator(experts=dict(n=2, train_text=True))
    params, data = parameters(g), batch()
    key = jax.random.key(3)
    t = g.times(jax.random.split(key, 3)[1], 8)
    assert np.asarray(expert_of(t, g.edges)).tolist() == [0] * 4 + [1] * 4

    def losses(params, half):
        per = g._per_position(params, data["text"], data["codes"], t, key)
        return jnp.mean(per[4 * half : 4 * half + 4])

    for half in (0, 1):
        grads = jax.jit(jax.grad(losses), static_argnums=1)(params, half)["denoiser"]
        mine = max(float(jnp.abs(x[half]).max()) for x in jax.tree.leaves(grads))
        other = max(float(jnp.abs(x[1 - half]).max()) for x in jax.tree.leaves(grads))
        assert mine > 0 and other == 0


@pytest.mark.parametrize("n", [1, 2, 5, 10, 20])
def test_training_times_lie_in_the_slices_that_sampling_asks_for(n):
    g = generator(experts=dict(n=n))
    t = g.times(jax.random.key(0), 4 * n)
    assert np.asarray(expert_of(t, g.edges)).tolist() == [k for k in range(n) for _ in range(4)]
    for sampler in ("ddim", "heun", "unipc"):
        plan = g.sampling_schedule(g.controls(dict(sampler=sampler, steps=20)))
        asked = [k for k, first, last in plan.runs for _ in range(first, last)]
        assert asked == np.asarray(expert_of(plan.times, g.edges)).tolist() and asked == sorted(
            asked, reverse=True
        )


def test_experts_start_as_copies_of_the_dense_model():
    dense, mixed = generator(), generator(experts=dict(n=5))
    params = parameters(dense)
    grown = mixed.upcycle(params)
    wanted = jax.tree.map(lambda x: x.shape, unbox(jax.eval_shape(mixed.init, jax.random.key(0))))
    assert jax.tree.map(lambda x: x.shape, grown) == wanted
    assert mixed.upcycle(grown) is grown and dense.upcycle(params) is params
    data, t = batch(10), jnp.asarray(np.repeat([0.1, 0.3, 0.5, 0.7, 0.9], 2), jnp.float32)
    args = (data["text"], data["codes"], t, jax.random.key(2))
    of = [jax.jit(g._per_position)(p, *args) for g, p in ((mixed, grown), (dense, params))]
    np.testing.assert_allclose(*of, rtol=1e-5)


def test_only_the_denoiser_learns_once_there_are_experts():
    g = generator(experts=dict(n=2))
    labels = g.labels(unbox(jax.eval_shape(g.init, jax.random.key(0))))
    assert set(jax.tree.leaves(labels["denoiser"])) == {"generator"} and set(
        jax.tree.leaves(labels["text"])
    ) == {"frozen"}
    assert (
        generator().labels({}) is None
        and generator(experts=dict(n=2, train_text=True)).labels({}) is None
    )


def test_a_denoising_step_costs_the_same_whatever_n_is():
    def flops(n: int) -> float:
        g = generator(experts=dict(n=n))
        params = unbox(jax.eval_shape(g.init, jax.random.key(0)))
        controls = g.controls(dict(steps=4, guidance=2.0))
        weights = jax.eval_shape(lambda p: g.expert_params(p, 0), params)
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4))
        state = jax.eval_shape(
            lambda p, k: g.begin(p, {"text": jnp.zeros((4, 8), jnp.int32)}, k, controls),
            params,
            keys,
        )
        row = {
            k: jnp.asarray(v[0], jnp.float32) for k, v in g.sampling_schedule(controls).rows.items()
        }
        lowered = jax.jit(lambda w, s, k: g.advance(w, s, row, jnp.int32(0), k)).lower(
            weights, state, keys
        )
        return lowered.compile().cost_analysis()["flops"]

    assert flops(1) == flops(5) > 1e4


def test_stepwise_sampling_is_sampling_and_rows_do_not_know_each_other():
    g = generator(experts=dict(n=2))
    params, text = parameters(g), batch(4)["text"]
    keys = jax.random.split(jax.random.key(5), 4)
    given = dict(steps=4, guidance=2.0, sampler="dpmpp_2m")
    whole, controls = sample(g, params, text, keys, **given), g.controls(given)
    plan = g.sampling_schedule(controls)
    state = jax.jit(lambda p, t, k: g.begin(p, {"text": t}, k, controls))(
        g.shared_params(params), text, keys
    )
    advance = jax.jit(g.advance)
    for expert, first, last in plan.runs:
        for j in range(first, last):
            row = {k: jnp.asarray(v[j], jnp.float32) for k, v in plan.rows.items()}
            state = advance(g.expert_params(params, expert), state, row, jnp.int32(j), keys)
    np.testing.assert_allclose(g.finish(state), whole, atol=2e-5)
    np.testing.assert_allclose(
        sample(g, params, text[1:3], keys[1:3], **given), whole[1:3], atol=2e-5
    )


def test_guidance_one_is_the_conditional_model():
    g = generator()
    params, text = parameters(g), batch(2)["text"]
    keys = jax.random.split(jax.random.key(5), 2)
    plain, near, far = (
        sample(g, params, text, keys, steps=3, guidance=w) for w in (1.0, 1.0 + 1e-6, 4.0)
    )
    np.testing.assert_allclose(plain, near, atol=1e-4)
    assert np.abs(plain - far).max() > 1e-3


def test_knowledge_without_weight_is_the_plain_loss_bit_for_bit():
    data = batch()
    rng = np.random.default_rng(1)
    marks = {
        "key": jnp.asarray(rng.random((8, 8)) < 0.5),
        "region": jnp.asarray(rng.random((8, 4, 4)) < 0.5),
    }
    g = generator(drop_text=0.0)
    params = parameters(g)
    plain = loss(g, params, data)[0]
    assert plain == loss(g, params, data | marks)[0]
    nothing = {"key": jnp.zeros((8, 8), bool), "region": jnp.zeros((8, 4, 4), bool)}
    for mode in ("prob", "logit"):
        weighed = generator(
            drop_text=0.0,
            knowledge=dict(attention_weight=0.5, region_weight=0.5, attention_mode=mode),
        )
        assert plain == loss(weighed, params, data | nothing)[0]
        assert (
            abs(plain - loss(weighed, params, data | {**marks, "region": nothing["region"]})[0])
            > 1e-5
        )


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_region_weight_multiplies_the_loss_of_its_positions(power):
    data, region = batch(), np.random.default_rng(1).random((8, 4, 4)) < 0.5
    g = generator(drop_text=0.0, knowledge=dict(region_weight=0.1, region_power=power))
    params, key = parameters(g), jax.random.key(0)
    keys = jax.random.split(key, 3)
    per = np.asarray(
        jax.jit(g._per_position)(params, data["text"], data["codes"], g.times(keys[1], 8), keys[2]),
        np.float64,
    )
    wanted = np.mean(per * np.where(region, 1.1**power, 1.0))
    np.testing.assert_allclose(
        loss(g, params, data | {"region": jnp.asarray(region)}, key)[0], wanted, rtol=1e-5
    )


def test_an_absorbing_process_trains_and_samples_through_the_same_code():
    g = generator(process=dict(name="absorbing"), experts=dict(n=2, train_text=True))
    assert g.space == "ids"
    params, data = unbox(jax.jit(g.init)(jax.random.key(0))), batch(ids=True)
    step = jax.jit(
        lambda p, k: jax.value_and_grad(lambda p: g.loss(p, data, k, jnp.int32(0))[0])(p)
    )
    first = np.mean([float(step(params, jax.random.key(k))[0]) for k in range(4)])
    descend = jax.jit(lambda p, k: jax.tree.map(lambda x, d: x - 0.3 * d, p, step(p, k)[1]))
    for k in range(40):
        params = descend(params, jax.random.key(k))
    assert np.mean([float(step(params, jax.random.key(k))[0]) for k in range(4)]) < 0.8 * first
    codes = sample(
        g, params, data["text"], jax.random.split(jax.random.key(1), 8), steps=4, guidance=1.5
    )
    assert (
        codes.shape == (8, 4, 4)
        and codes.dtype == np.int32
        and 0 <= codes.min()
        and codes.max() < 32
    )


def test_agreement_depends_on_the_row_alone():
    g = generator()
    params, data = parameters(g), batch(4)
    agreement = jax.jit(g.agreement)
    whole = agreement(params, data["text"], data["codes"])
    turned = agreement(params, data["text"][::-1], data["codes"][::-1])[::-1]
    np.testing.assert_allclose(whole, turned, rtol=1e-5)
    assert (
        np.abs(whole - agreement(params, np.roll(data["text"], 1, 0), data["codes"])).max() > 1e-4
    )


def test_one_expert_alone_draws_its_own_times_and_does_not_sample():
    g = generator(experts=dict(n=5, only=3))
    assert set(np.asarray(expert_of(g.times(jax.random.key(0), 8), g.edges)).tolist()) == {3}
    assert not any(
        "expert" in b.names
        for b in jax.tree.leaves(jax.eval_shape(g.init, jax.random.key(0)), is_leaf=is_box)
    )
    with pytest.raises(
        UserError,
        match="generator.experts.only=3: this run trained one of 5 experts.*vilg assemble",
    ):
        g.sampling_schedule(g.controls({}))
    edges = g.edges[3:5]
    assert all(edges[0] < t <= edges[1] for t in np.asarray(g.levels(4)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(experts=dict(n=3)), "must divide the 1000 timesteps"),
        (
            dict(experts=dict(n=5, only=5)),
            r"generator.experts.only=5: must be -1 \(all\) or an expert from 0 to 4",
        ),
        (
            dict(experts=dict(n=5, split=dict(name="ends"))),
            "generator.experts.n=5: this split has 3 experts",
        ),
        (dict(experts=dict(n=6, split=dict(name="tree"))), "must be a power of two"),
        (dict(drop_text=1.0), r"generator.drop_text=1.0: must lie in \[0, 1\)"),
        (
            dict(process=dict(name="gauss")),
            "generator.process.name='gauss': did you mean 'gaussian'",
        ),
        (dict(denoiser=dict(name="dit", width=15)), "generator.denoiser.width=15"),
        (
            dict(knowledge=dict(attention_mode="both")),
            "generator.knowledge.attention_mode='both': must be one of",
        ),
    ],
)
def test_wrong_fields_are_a_sentence(changes, said):
    with pytest.raises(UserError, match=said):
        generator(**changes)


def test_wrong_controls_are_a_sentence():
    g = generator()
    for given, said in [
        (dict(top_k=4), "top_k=4: a diffusion generator has no such option"),
        (dict(sampler="plms"), "sampler='plms'"),
        (dict(steps=0), "steps=0: must be at least 1"),
        (dict(eta=0.5, sampler="unipc"), "eta=0.5: means nothing to sampler='unipc'"),
    ]:
        with pytest.raises(UserError, match=said):
            g.controls(given)
    with pytest.raises(
        UserError, match="guidance=2.0: needs a model trained with generator.drop_text above 0"
    ):
        generator(drop_text=0.0).controls(dict(guidance=2.0))
    table = generator(process=dict(name="gaussian"))
    with pytest.raises(UserError, match="steps=1001: must be from 1 to 1000"):
        table.controls(dict(steps=1001))


def test_experts_are_named_in_the_metrics():
    g = generator(experts=dict(n=2))
    metrics = loss(g, parameters(g), batch())[1]
    assert {k: float(v) for k, v in metrics.items() if k.endswith("share")} == {
        "expert_0/share": 0.5,
        "expert_1/share": 0.5,
    }
    assert dataclasses.is_dataclass(g) and all(np.isfinite(float(v)) for v in metrics.values())
