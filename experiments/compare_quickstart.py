"""The transformer against diffusion on the quickstart's scenes, at the same training FLOPs.

    vilg compare --config=experiments/compare_quickstart.py --out=runs/compare/quickstart

Both use one codec, of which the transformer draws the ids and the diffusion model the latents, and
one text model. The budget is about what the quickstart spends on the transformer. The whole command
takes 2,337 CPU-seconds on busy cores, the ranker included: the transformer is right in 1.000 of the
one-object and .945 of the two-object prompts, the diffusion model in .879 and .832; of pairs of
colour and shape that training never showed in .000 and .000 against .758 and .629
(experiments/results/README.md). `compare_quickstart.py:smoke` with --budget=images:640 runs every
stage in two minutes."""

from ml_collections import ConfigDict

from vilg.experiment_file import load_config, load_file

BUDGET = "flops:3.3e13"
SEEDS = (0,)
SIZES = ("default", "smoke")
# It chooses the best of N where SAMPLING asks for best_of.
RANKER = load_config("ranker.py:tiny", beside=__file__)
SAMPLING = {
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
    """The first of the two experiments that are compared."""
    return generators(size)["autoregressive"]


def generators(size: str = "default") -> dict[str, ConfigDict]:
    """The two experiments of the quickstart, both with a moving average of their parameters."""
    configs = load_file("quickstart.py", beside=__file__).generators(size)
    for config in configs.values():
        config["training"]["ema"] = 0.99
    return configs
