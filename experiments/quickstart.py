"""The quickstart: ERNIE-ViLG 1.0 at toy size on snapped synthetic scenes, from pictures to pictures on two CPU cores.

    ./launch/quickstart.sh

32x32 pixels, 8x8 codes, 8 colours x 6 shapes x 3 sizes, one or two objects, 4 relations, plain background, centres snapped to the codec's
4-pixel patches. A tenth of the colour-shape pairs is withheld from training.
Reached (commit d84a2133f218, two idle CPU cores, 6 minutes, 621 CPU-seconds):
one object 1.000, two objects .926, captions 1.000 / .664, held-out pairs .000.
"""

from typing import Any

from ml_collections import ConfigDict

from vilg.config import require
from vilg.experiment import load_config


def get_config(size: str = "default") -> ConfigDict:
    """`default`, the run that the README reports, or `smoke`, a minute's run of every stage."""
    require(size in ("default", "smoke"), "config size", size, "known sizes are 'default' and 'smoke'")
    codec = load_config("tokenizer.py:tiny", beside=__file__).to_dict()
    scenes = dict(codec["data"]["train"], weights=(0.2, 0.8))
    config: dict[str, Any] = dict(
        seed=0,
        data=dict(
            train=dict(scenes, split="train"),
            valid=dict(scenes, split="valid"),
            loader=dict(seed=0),
            text=dict(vocabulary=512, length=24),
        ),
        codec=dict(workdir="", floors=dict(codebook_usage=0.6, two_objects=0.95), experiment=codec),
        generator=dict(
            name="autoregressive",
            width=128,
            layers=4,
            heads=4,
            patterns="dense",
            attention="dense",
            scan=False,
            remat="none",
            dtype="float32",
            qk_norm=True,
            rotary_base=100.0,  # relative places: without them captions stayed bags of words (two objects .25 after 1,600 steps)
            embed_scale=0.5,  # the blocks' outputs are of order 1: at 0.02 positions drowned in them, and relations were never learned
            code_embedding="codec",  # near codes share what is learned (pairs that were never seen stay at .000 all the same)
            text_window=4,  # "red" is known at "circle" before any attention
            image_window=0,
            image_to_text_weight=0.3,  # about the ratio of counted tokens: a sum over targets, as in the paper, not a mean of means
            caption_every=2,
            drop_text=0.1,
        ),
        optimizer=dict(kind="muon", learning_rate=0.01, adam_ratio=1.0, schedule="linear", warmup_steps=30, clip=1.0),
        layout=dict(name="dp"),
        training=dict(
            steps=1500, batch_size=32, accumulation=1, ema=0.0, checkpoint_every=200, log_every=20, evaluate_every=0, sample_every=0
        ),
        evals=dict(scenes=dict(n=256, split="test", guidance=1.4, temperature=0.8)),
    )
    if size == "smoke":
        codec["training"].update(steps=260, checkpoint_every=130)
        config["codec"].update(floors=dict(codebook_usage=0.05))
        config["generator"].update(width=32, layers=1, heads=1)
        config["training"].update(steps=20)
        config["evals"]["scenes"].update(n=8)
    return ConfigDict(config)
