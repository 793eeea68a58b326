"""Knowledge of words and regions in training (ERNIE-ViLG 2.0, arXiv 2210.15257, section 2.2).

    vilg sweep --config=experiments/ablations/knowledge.py --out=runs/ablations/knowledge

The cells train without knowledge, with knowledge of words ("textual"), of regions ("visual"), of
both, and with the changes to captions that come with it. Words, boxes and labels are the synthetic
source's own annotations. The shares of samples with knowledge are the paper's: a half, and a tenth
for replacement. The paper's weights (.01 on attention, .1 on regions) may be too little to see at
this scale, so cells that end in _10 weigh ten times as much.

In the `omitted` cells the captions of half of the pictures name one of their two objects only, as
people's captions do. `omitted` is the control of completion, which appends the names of the other
objects, and of replacement, which takes a whole machine caption where there is one.

A run takes 184 to 271 CPU-seconds on a busy core. Seven of the cells were run, with three seeds:
omitted objects lower the share of right single objects from .182 to .057, completion and
replacement bring back a little of the caption gap but no score (experiments/results/README.md)."""

from typing import Any

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config

METRICS = {
    "scenes/single_object": "one object",
    "scenes/two_objects": "two objects",
    "scenes/parts/two_objects/relation": "two objects: relation",
    "caption_gap/largest": "caption gap",
}


def get_config(size: str = "tiny") -> ConfigDict:
    """The experiment that the cells change."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def tiny() -> dict:
    """No knowledge: a DiT of 4 layers, 96 wide, on the quickstart's scenes and codec."""
    quickstart = load_config("../quickstart.py", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=dict(
            train=dict(quickstart["data"]["train"], annotations=True),
            valid=dict(quickstart["data"]["valid"], annotations=True),
            loader=dict(seed=0),
            text=dict(vocabulary=512, length=24),
        ),
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


def knowledge(
    shares: dict[str, float],
    attention_weight: float = 0.0,
    region_weight: float = 0.0,
    attention_mode: str = "prob",
) -> dict[str, Any]:
    """Overrides for these weights, and these shares of the samples that have each knowledge."""
    none = dict(tags=0.0, attention=0.0, regions=0.0, completion=0.0, replacement=0.0)
    return {
        "data.knowledge": dict(none, **shares),
        "generator.knowledge": dict(
            attention_weight=attention_weight,
            attention_mode=attention_mode,
            region_weight=region_weight,
            region_power=1.0,
        ),
    }


WORDS = dict(tags=0.5, attention=0.5)
REGIONS = dict(regions=0.5)
OMITTED = {"data.train.omitted": 0.5, "data.valid.omitted": 0.5}

CELLS: dict[str, dict[str, Any]] = {
    "off": {},
    "tags": knowledge(dict(tags=0.5)),
    "textual": knowledge(WORDS, attention_weight=0.01),
    "textual_logit": knowledge(WORDS, attention_weight=0.01, attention_mode="logit"),
    "textual_10": knowledge(WORDS, attention_weight=0.1),
    "visual": knowledge(REGIONS, region_weight=0.1),
    "visual_10": knowledge(REGIONS, region_weight=1.0),
    "both": knowledge(WORDS | REGIONS, attention_weight=0.01, region_weight=0.1),
    "omitted": OMITTED | knowledge({}),
    "omitted_completion": OMITTED | knowledge(dict(completion=0.5)),
    "omitted_replacement": OMITTED | knowledge(dict(replacement=0.1)),
    "omitted_both": OMITTED | knowledge(dict(completion=0.5, replacement=0.1)),
}
CONTROLS = {
    name: "omitted" if name.startswith("omitted_") else "off" for name in CELLS if name != "off"
}
TABLES = {
    "weights on key words and regions": [name for name in CELLS if not name.startswith("omitted")],
    "captions that omit objects": ["off", *(name for name in CELLS if name.startswith("omitted"))],
}
