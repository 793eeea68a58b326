"""The transformer against diffusion on emoji of 64 px, at the same training FLOPs.

    vilg data prepare emoji --out=runs/data/emoji
    vilg compare --config=experiments/compare_emoji.py --out=runs/compare/emoji

Both use the VQ codec of tokenizer.py:emoji, of which the transformer draws the ids and the
diffusion model the latents, each an 8x8 grid, and one text model of Chinese and English names. The
whole command takes 8,850 CPU-seconds on busy cores. The own caption is the best of 16 for .156 of
the pictures with the transformer and for .430 with the diffusion model (chance .063). There is one
training seed, so a difference is significant over pictures only (experiments/results/README.md)."""

from ml_collections import ConfigDict

from vilg.experiment_file import load_config

BUDGET = "flops:1.1e14"
SEEDS = (0,)
SIZES = ("emoji",)
SAMPLING = {
    "autoregressive": [{}, {"guidance": 1.0}, {"guidance": 2.0}],
    "diffusion": [{"steps": 5}, {"steps": 10}, {"steps": 30}],
}


def get_config(size: str = "emoji") -> ConfigDict:
    """The first of the two experiments that are compared."""
    return generators(size)["autoregressive"]


def generators(size: str = "emoji") -> dict[str, ConfigDict]:
    """The emoji experiments of both generators, evaluated alike, with averaged parameters.

    `vilg compare` gives the second the seed, data, codec and layout of the first.
    """
    transformer = load_config(f"ernie_vilg.py:{size}", beside=__file__).to_dict()
    diffusion = load_config(f"ernie_vilg2.py:{size}", beside=__file__).to_dict()
    diffusion["generator"]["denoiser"]["patch"] = 1  # the VQ codec's grid is 8x8, not 16x16
    for config in (transformer, diffusion):
        config["training"].update(ema=0.999, sample_every=0)
        config["evals"] = {"twins": config["evals"]["twins"]}
    return {"autoregressive": ConfigDict(transformer), "diffusion": ConfigDict(diffusion)}
