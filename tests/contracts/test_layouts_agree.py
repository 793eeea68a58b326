"""Every layout computes what one device computes: loss and gradients of a step, for a generator and
for a codec.
"""

import jax
import numpy as np
import pytest

from tests.conftest import tiny_config, tiny_diffusion
from vilg.experiment import build_experiment
from vilg.parallel.layouts import LAYOUTS, parse_layout
from vilg.program import Program
from vilg.run.verify.step import Inputs, Step, compared

SPECS = [name for name in LAYOUTS if name != "group_sharded"] + [
    f"group_sharded:stage={s}" for s in (1, 2, 3)
]
KINDS = ("sparse", "codec")
EXPERTS = [
    "dp",
    "fsdp_tp",
    "expert",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("fsdp", "tp", "group_sharded:stage=3")
    ),
]
UNET = dict(
    name="unet",
    channels=16,
    multipliers=(1, 2),
    blocks=1,
    attention=(2,),
    head_width=4,
    groups=8,
    scan=False,
)


def experiment_of(kind: str, **changes):
    if kind == "codec":
        return build_experiment(tiny_config().codec.experiment)
    if kind == "experts":  # a U-Net, whose convolutions are what partitioning gets wrong
        made = dict(
            generator__denoiser=UNET,
            generator__experts=dict(n=4, train_text=True),
            generator__text__heads=8,
            training__batch_size=32,
        )
        return build_experiment(tiny_diffusion(**made, **changes))
    extra = (
        dict(generator__patterns=["column", "convolution"], generator__caption_every=2)
        if kind == "sparse"
        else {}
    )
    return build_experiment(
        tiny_config(**{"generator__width": 64, "generator__heads": 8, **extra, **changes})
    )


def batch_of(experiment) -> dict:
    rng = np.random.default_rng(0)
    size = experiment.training.batch_size
    if experiment.codec is None:
        return {"image": rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)}
    text = rng.integers(
        5, experiment.data.text.vocabulary, (size, experiment.data.text.length)
    ).astype(np.int32)
    if experiment.model.space == "latents":
        return {
            "text": text,
            "codes": rng.normal(
                size=(size, *experiment.image_codec.grid, experiment.image_codec.latent_channels)
            ).astype(np.float32),
        }
    return {
        "text": text,
        "codes": rng.integers(
            0, experiment.image_codec.vocabulary, (size, *experiment.image_codec.grid)
        ).astype(np.int32),
    }


def inputs_of(experiment) -> Inputs:
    """Parameters, and a batch with random codes."""
    inputs = Inputs(experiment.config)
    inputs.batch = batch_of(experiment)
    return inputs


def step(experiment, layout: str, devices: int, inputs: Inputs | None = None) -> Step:
    """Loss and gradients of one step under a layout."""
    return Step(
        experiment, inputs or inputs_of(experiment), parse_layout(layout), jax.devices()[:devices]
    )


@pytest.fixture(scope="module", params=KINDS)
def reference(request):
    experiment = experiment_of(request.param)
    inputs = inputs_of(experiment)
    return request.param, experiment, inputs, step(experiment, "dp", 1, inputs)


@pytest.fixture(scope="module")
def experts():
    experiment = experiment_of("experts")
    inputs = inputs_of(experiment)
    return "experts", experiment, inputs, step(experiment, "dp", 1, inputs)


@pytest.mark.parametrize("layout", SPECS)
def test_loss_and_gradients_equal_one_device(reference, layout):
    agree(reference, layout)


@pytest.mark.parametrize(
    "layout", EXPERTS
)  # the others differ from these in the optimizer's placement only
def test_experts_equal_one_device(experts, layout):
    agree(experts, layout)


def agree(reference, layout: str) -> None:
    """The layout's loss and gradients are the reference's."""
    kind, experiment, inputs, alone = reference
    other = step(experiment, layout, 8, inputs)
    row = compared(alone, other, "float32")
    assert row["loss_error"] <= 1e-5 and row["gradient_error"] <= (
        1e-4 if kind == "codec" else 1e-5
    ), row
    assert other.collectives, "a step on 8 devices without a collective computes something else"
    assert (other.sharded_fraction > 0.5) == bool(parse_layout(layout).params)


def test_accumulation_and_remat_change_nothing():
    # without what a microbatch draws or averages for itself
    fixed = dict(
        generator__drop_text=0.0, generator__image_to_text_weight=0.0, generator__caption_every=1
    )
    plain = step(experiment_of("sparse", **fixed), "dp", 1)
    for changes in (
        dict(training__accumulation=2),
        dict(generator__remat="full"),
        dict(generator__remat="qkv_attention_mlp"),
    ):
        other = step(experiment_of("sparse", **fixed, **changes), "fsdp", 8)
        assert abs(plain.loss - other.loss) <= 1e-5 * abs(plain.loss)
        for name, g in plain.gradients.items():
            assert np.abs(g - other.gradients[name]).max() <= 2e-5 * max(np.abs(g).max(), 1e-3), (
                changes,
                name,
            )


def test_a_wrong_sum_would_be_seen():
    """The comparison has teeth: one gradient scaled by 1.001 is beyond the tolerance."""
    grads = step(experiment_of("codec"), "dp", 1).gradients
    name, g = next((n, g) for n, g in grads.items() if np.abs(g).max() > 0)
    largest = max(np.abs(x).max() for x in grads.values())
    assert np.abs(g - g * 1.001).max() > 1e-5 * max(np.abs(g).max(), 1e-3 * largest), name


def test_every_optimizer_state_is_placed_by_its_parameters():
    """Muon, Adafactor and AdamW states are sharded where the layout says, and the codec's
    statistics stay whole.
    """
    for kind in ("adamw", "adafactor", "muon"):
        experiment = experiment_of("dense", optimizer__kind=kind, generator__layers=1)
        program = Program(experiment, layout=parse_layout("zero1"))
        state = program.init_state()
        leaves = [x for x in jax.tree.leaves(state.optimizer) if x.ndim >= 2]
        assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(state.params))
        if kind != "adafactor":
            assert sum(not x.sharding.is_fully_replicated for x in leaves) > len(leaves) / 2
        new, metrics = program.train_step(
            state,
            {k: jax.device_put(v, program.batch_sharding) for k, v in batch_of(experiment).items()},
            None,
        )
        assert np.isfinite(float(metrics["loss"])) and int(new.step) == 1
    assert experiment_of("codec").model.init_statistics() is not None
