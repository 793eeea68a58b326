"""Autoregressive against diffusion on real bilingual emoji at 64 px, at the same training FLOPs,
with one codec and one text model.

    vilg data prepare emoji --out=runs/data/emoji
    vilg compare --config=experiments/compare_emoji.py --out=runs/compare/emoji

The VQ codec of `tokenizer.py:emoji` serves both: the transformer draws its ids, the diffusion model
its latents, each an 8x8 grid. One training seed, so whatever differs is significant over pictures
only. What it gave: experiments/results/README.md."""

from typing import Any

from ml_collections import ConfigDict

from vilg.experiment_file import load_config

BUDGET = "flops:1.1e14"
SEEDS = (0,)
SIZES = ("emoji",)
SAMPLING: dict[str, list[dict[str, Any]]] = {
    "autoregressive": [{}, {"guidance": 1.0}, {"guidance": 2.0}],
    "diffusion": [{"steps": 5}, {"steps": 10}, {"steps": 30}],
}


def get_config(size: str = "emoji") -> ConfigDict:
    """The first contender."""
    return generators(size)["autoregressive"]


def generators(size: str = "emoji") -> dict[str, ConfigDict]:
    """The emoji models of the two families, evaluated alike and both with a moving average of their
    parameters.
    """
    files = {"autoregressive": "ernie_vilg.py", "diffusion": "ernie_vilg2.py"}
    configs = {
        name: load_config(f"{file}:{size}", beside=__file__).to_dict()
        for name, file in files.items()
    }
    for config in configs.values():
        config["training"].update(ema=0.999, sample_every=0)
        config["evals"] = {"twins": config["evals"]["twins"]}
    configs["diffusion"]["generator"]["denoiser"]["patch"] = 1  # the VQ codec's grid is 8x8
    return {name: ConfigDict(config) for name, config in configs.items()}
