"""Autoregressive against diffusion on the quickstart's scenes, at the same training FLOPs, with one
codec and one text model.

    vilg compare --config=experiments/compare_quickstart.py --out=runs/compare/quickstart

The transformer draws the codec's ids, the diffusion model its latents. The budget is about what the
quickstart spends on the transformer. `compare_quickstart.py:smoke` with --budget=images:640 runs
every stage in two minutes. What it gave: experiments/results/README.md."""

from typing import Any

from ml_collections import ConfigDict

from vilg.experiment_file import load_config, load_file

BUDGET = "flops:3.3e13"
SEEDS = (0,)
SIZES = ("default", "smoke")
RANKER = load_config("ranker.py:tiny", beside=__file__)
SAMPLING: dict[str, list[dict[str, Any]]] = {
    "autoregressive": [{}, {"best_of": 4}, {"guidance": 1.0}],
    "diffusion": [
        {"steps": 5},
        {"steps": 10},
        {"steps": 20},
        {"steps": 40},
        {"steps": 20, "best_of": 4},
    ],
}


def get_config(size: str = "default") -> ConfigDict:
    """The first contender."""
    return generators(size)["autoregressive"]


def generators(size: str = "default") -> dict[str, ConfigDict]:
    """The quickstart's two, as it has them, both with a moving average of their parameters."""
    configs = load_file("quickstart.py", beside=__file__).generators(size)
    for config in configs.values():
        config["training"]["ema"] = 0.99
    return configs
