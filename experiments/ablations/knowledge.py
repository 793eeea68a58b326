"""Knowledge in training (ERNIE-ViLG 2.0, section 2.2) at tiny size: off, textual, visual, both, and
the captions that come with it.

    vilg sweep --config=experiments/ablations/knowledge.py --out=runs/ablations/knowledge

Words, boxes and labels are the synthetic source's own annotations. Shares are the paper's: half of
the samples, a tenth for replacement. Its weights (.01 on attention, .1 on regions) may be too
little to see at this scale, so `_10` weighs ten times as much. In `omitted` the captions of half of
the pictures name one of their two objects, as people's do, and the control of completion (names of
the others are appended) and replacement (a whole machine caption, where there is one) is that cell.
Seven of the cells were run: results/README.md."""

from typing import Any

from ml_collections import ConfigDict

from vilg.experiment_file import load_config

SIZES = ("tiny",)
METRICS = {
    "scenes/single_object": "one object",
    "scenes/two_objects": "two objects",
    "scenes/parts/two_objects/relation": "two objects: relation",
    "caption_gap/largest": "caption gap",
}
NONE = dict(tags=0.0, attention=0.0, regions=0.0, completion=0.0, replacement=0.0)


def get_config(size: str = "tiny") -> ConfigDict:
    """What the cells share: no knowledge."""
    config = load_config(f"noise.py:{size}", beside=__file__).to_dict()
    for part in ("train", "valid"):
        config["data"][part].update(annotations=True)
    return ConfigDict(config)


def cell(
    attention_weight: float = 0.0, region_weight: float = 0.0, mode: str = "prob", **shares: float
) -> dict[str, Any]:
    """Overrides for knowledge with these weights and shares of the samples."""
    weights = dict(
        attention_weight=attention_weight,
        attention_mode=mode,
        region_weight=region_weight,
        region_power=1.0,
    )
    return {"data.knowledge": NONE | shares, "generator.knowledge": weights}


def omitted(**shares: Any) -> dict[str, Any]:
    """Captions that omit objects, with these shares of knowledge."""
    return {"data.train.omitted": 0.5, "data.valid.omitted": 0.5, **cell(**shares)}


TEXTUAL: dict[str, Any] = dict(tags=0.5, attention=0.5)
VISUAL: dict[str, Any] = dict(regions=0.5)
CELLS: dict[str, dict[str, Any]] = {
    "off": {},
    "tags": cell(tags=0.5),
    "textual": cell(0.01, **TEXTUAL),
    "textual_logit": cell(0.01, mode="logit", **TEXTUAL),
    "textual_10": cell(0.1, **TEXTUAL),
    "visual": cell(0.0, 0.1, **VISUAL),
    "visual_10": cell(0.0, 1.0, **VISUAL),
    "both": cell(0.01, 0.1, **TEXTUAL, **VISUAL),
    "omitted": omitted(),
    "omitted_completion": omitted(completion=0.5),
    "omitted_replacement": omitted(replacement=0.1),
    "omitted_both": omitted(completion=0.5, replacement=0.1),
}
CONTROLS = {
    name: "omitted" if name.startswith("omitted_") else "off" for name in CELLS if name != "off"
}
TABLES = {
    "weights on key words and regions": [name for name in CELLS if not name.startswith("omitted")],
    "captions that omit objects": ["off", *(name for name in CELLS if name.startswith("omitted"))],
}
