"""Which noise and which prediction make a diffusion model obey the caption, one change at a time.

    vilg sweep --config=experiments/ablations/noise.py --out=runs/ablations/noise

A small diffusion model learns the quickstart's scenes. The base predicts x0 with weight 1. Its
training noise lies around sigma / alpha = e^1.7, where a picture's colour and shape are lost and
its caption is needed (vilg/evals/caption_gap.py), and its sampler goes from sigma / alpha = 80 down
to .65. The cell `shuffled` trains on captions of other records, so its scores are those of a model
that cannot know the caption. Cells that change only `evals` evaluate the base's runs again.

A run takes 192 to 243 CPU-seconds on a busy core, the codec before all of them 51. Every cell was
run with one seed: the base draws .266 of the single objects right, `shuffled` .016
(experiments/results/README.md)."""

from typing import Any

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config

METRICS = {
    "scenes/single_object": "one object",
    "scenes/two_objects": "two objects",
    "caption_gap/largest": "caption gap",
    "training/loss": "training loss (its own weighting)",
}


def get_config(size: str = "tiny") -> ConfigDict:
    """The experiment that the cells change."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def tiny() -> dict:
    """The base: a DiT of 4 layers and .96 M parameters, on the quickstart's data and codec."""
    quickstart = load_config("../quickstart.py", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=quickstart["data"],
        codec=quickstart["codec"],
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                schedule=dict(name="log_linear", sigma_min=0.02, sigma_max=80.0),
                prediction="x0",
                weighting=dict(name="x0"),
                times=dict(name="lognormal", mean=1.7, std=1.0),
            ),
            denoiser=dict(
                name="dit",
                width=96,
                layers=4,
                heads=4,
                zero_gates=False,
                rotary_base=100.0,
                qk_norm=True,
                embed_scale=0.5,
                scan=False,
            ),
            text=dict(
                width=96, layers=1, heads=4, window=4, embed_scale=0.5, qk_norm=True, scan=False
            ),
            experts=dict(n=1),
            drop_text=0.1,
        ),
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            adam_ratio=0.3,
            schedule="linear",
            warmup_steps=30,
            clip=1.0,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=600,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=600,
            log_every=20,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(
            scenes=dict(n=64, split="valid", captions=False, guidance=2.0, steps=20, last=0.42)
        ),
    )


SIZES = {"tiny": tiny}


def replaced_codec(codec: dict[str, Any], floors: dict[str, float]) -> dict[str, Any]:
    """Overrides that put another codec in the place of the quickstart's."""
    experiment = load_config("../quickstart.py", beside=__file__).to_dict()["codec"]["experiment"]
    return {"codec.experiment": dict(experiment, codec=codec), "codec.floors": floors}


SCHEDULE = "generator.process.schedule"
PREDICTION = "generator.process.prediction"
WEIGHTING = "generator.process.weighting"
TIMES = "generator.process.times"
UNIT_WEIGHT = {WEIGHTING: dict(name="unit")}  # the weight of the loss of v or eps itself
PAPER = {
    "generator.process": dict(
        name="gaussian",
        schedule=dict(name="ldm_linear"),
        prediction="eps",
        weighting=dict(name="unit"),
        times=dict(name="table"),
    ),
    "evals.scenes.last": 0.0,
}
KL_CODEC = load_config("../tokenizer.py:kl_tiny", beside=__file__).to_dict()["codec"]
PIXELS_CODEC = dict(name="pixels", image_size=32, patch=4)

CELLS: dict[str, dict[str, Any]] = {
    "base": {},
    "shuffled": {"data.loader.shuffle_captions": True},
    # the prediction, with the weight of its own loss and with the base's
    "v": {PREDICTION: "v", **UNIT_WEIGHT},
    "eps": {PREDICTION: "eps", **UNIT_WEIGHT},
    "v_weight_x0": {PREDICTION: "v"},
    "eps_weight_x0": {PREDICTION: "eps"},
    # the weight of the error of x0
    "weight_snr": {WEIGHTING: dict(name="snr")},
    "weight_min_snr": {WEIGHTING: dict(name="min_snr")},
    "weight_truncated_snr": {WEIGHTING: dict(name="truncated_snr")},
    # the noise that is trained
    "times_uniform": {TIMES: dict(name="uniform")},
    "times_0": {TIMES: dict(name="lognormal", mean=0.0, std=1.0)},
    "times_3": {TIMES: dict(name="lognormal", mean=3.0, std=1.0)},
    # the schedules of the papers
    "paper": PAPER,
    "paper_shifted": {**PAPER, SCHEDULE: dict(name="ldm_linear", shift=8.0)},
    "paper_v_zero_terminal": {
        **PAPER,
        SCHEDULE: dict(name="ldm_linear", zero_terminal_snr=True),
        PREDICTION: "v",
    },
    "paper_x0_min_snr": {**PAPER, PREDICTION: "x0", WEIGHTING: dict(name="min_snr")},
    # guidance and sampling
    "guidance_1": {"evals.scenes.guidance": 1.0},
    "guidance_4": {"evals.scenes.guidance": 4.0},
    "to_the_end": {"evals.scenes.last": 0.0},
    # the codec, whose latents or ids are denoised
    "kl": replaced_codec(KL_CODEC, floors={"two_objects": 0.9}),
    "pixels": replaced_codec(PIXELS_CODEC, floors={}),
    "ids": {"generator.process": dict(name="absorbing"), "evals.scenes.last": 0.0},
    # the denoiser and the text encoder
    "unet": {
        "generator.denoiser": dict(
            name="unet",
            channels=32,
            multipliers=(1, 2),
            blocks=1,
            attention=(1, 2),
            head_width=16,
            groups=16,
            pooled_text=True,
            scan=False,
        )
    },
    "text_window_0": {"generator.text.window": 0},
}
