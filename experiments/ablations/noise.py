"""What makes the caption act: a small diffusion generator on the quickstart's scenes, one thing
changed at a time.

    vilg sweep --config=experiments/ablations/noise.py --out=runs/ablations/noise

The base predicts x0 with weight 1 at noise drawn around sigma / alpha = e^1.7, where a picture's
colour and shape are lost and its caption is needed (vilg/evals/caption_gap.py), and samples from
sigma / alpha = 80 down to .65. `shuffled` trains on captions of other records: its scores are
what a generator gets that cannot know the caption. Cells that change only `evals` are evaluations
of the base's runs. Every cell was run, one seed: experiments/results/README.md."""

from typing import Any

from ml_collections import ConfigDict

from vilg.config import require
from vilg.experiment_file import load_config

SIZES = ("tiny",)
METRICS = {
    "scenes/single_object": "one object",
    "scenes/two_objects": "two objects",
    "caption_gap/largest": "caption gap",
    "training/loss": "training loss (its own weighting)",
}


def get_config(size: str = "tiny") -> ConfigDict:
    """What the cells share."""
    require(size == "tiny", "config size", size, "the only size is 'tiny'")
    config = load_config("../quickstart.py", beside=__file__).to_dict()
    shape = dict(width=96, heads=4, qk_norm=True, embed_scale=0.5, scan=False)
    config["generator"] = dict(
        name="diffusion",
        process=dict(
            name="gaussian",
            schedule=LOG_LINEAR,
            prediction="x0",
            weighting=dict(name="x0"),
            times=lognormal(1.7),
        ),
        denoiser=dict(name="dit", layers=4, rotary_base=100.0, zero_gates=False, **shape),
        text=dict(layers=1, window=4, **shape),
        experts=dict(n=1),
        drop_text=0.1,
    )
    config["optimizer"] = dict(
        kind="muon",
        learning_rate=0.01,
        adam_ratio=0.3,
        schedule="linear",
        warmup_steps=30,
        clip=1.0,
    )
    config["training"].update(steps=600, batch_size=32, ema=0.0, checkpoint_every=600)
    config["evals"] = dict(
        scenes=dict(n=64, split="valid", guidance=2.0, steps=20, captions=False, last=0.42)
    )
    return ConfigDict(config)


def lognormal(mean: float) -> dict[str, Any]:
    """Training times with log(sigma / alpha) ~ N(mean, 1)."""
    return dict(name="lognormal", mean=mean, std=1.0)


def tokenizer(codec: dict[str, Any], floors: dict[str, float]) -> dict[str, Any]:
    """Overrides that put another codec in the place of the quickstart's."""
    experiment = load_config("../quickstart.py", beside=__file__).to_dict()["codec"]["experiment"]
    return {"codec.experiment": experiment | {"codec": codec}, "codec.floors": floors}


LOG_LINEAR = dict(name="log_linear", sigma_min=0.02, sigma_max=80.0)
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
SCHEDULE, PREDICTION, WEIGHTING, TIMES = (
    f"generator.process.{field}" for field in ("schedule", "prediction", "weighting", "times")
)
UNIT = {WEIGHTING: dict(name="unit")}
KL = load_config("../tokenizer.py:kl_tiny", beside=__file__).to_dict()["codec"]

CELLS: dict[str, dict[str, Any]] = {
    "base": {},
    "shuffled": {"data.loader.shuffle_captions": True},
    # what is predicted, each with the weight that its own loss has, then with the base's
    "v": {PREDICTION: "v", **UNIT},
    "eps": {PREDICTION: "eps", **UNIT},
    "v_weight_x0": {PREDICTION: "v"},
    "eps_weight_x0": {PREDICTION: "eps"},
    # the weight of x0's error
    "weight_snr": {WEIGHTING: dict(name="snr")},
    "weight_min_snr": {WEIGHTING: dict(name="min_snr")},
    "weight_truncated_snr": {WEIGHTING: dict(name="truncated_snr")},
    # which noise is trained
    "times_uniform": {TIMES: dict(name="uniform")},
    "times_0": {TIMES: lognormal(0.0)},
    "times_3": {TIMES: lognormal(3.0)},
    # the papers' schedules
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
    # what is denoised
    "kl": tokenizer(KL, {"two_objects": 0.9}),
    "pixels": tokenizer(dict(name="pixels", image_size=32, patch=4), {}),
    "ids": {"generator.process": dict(name="absorbing"), "evals.scenes.last": 0.0},
    # what denoises, and what reads
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
