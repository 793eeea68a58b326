"""The quickstart: both ERNIE-ViLG generators at toy size on snapped synthetic scenes, from pictures
to pictures on two CPU cores.

    ./launch/quickstart.sh

32x32 pixels, 8x8 codes, 8 colours x 6 shapes x 3 sizes, one or two objects, 4 relations, plain
background, centres snapped to the codec's 4-pixel patches. A tenth of the colour-shape pairs is
withheld from training. One VQ codec serves both: the transformer (1.0) draws its ids, the diffusion
model (2.0; here a DiT of one expert) its latents. Reached on the test split in one run (commit
b905b22, 1,980 CPU-seconds with the codec): transformer .992 one object, .887 two objects, captions
1.000 / .555; diffusion .941 / .844, held-out pairs .727 / .656."""

from typing import Any

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config


def get_config(size: str = "default") -> ConfigDict:
    """One of SIZES: the two generators that the README reports, and a minute's run of every stage
    of each.
    """
    return ConfigDict(lookup(SIZES, size, "config size")())


def generators(size: str = "default") -> dict[str, ConfigDict]:
    """What `vilg quickstart` trains, by the name of its directory and column: `default`, or
    `smoke`.
    """
    names = {"default": ("default", "diffusion"), "smoke": ("smoke", "diffusion_smoke")}
    return dict(
        zip(
            ("autoregressive", "diffusion"),
            map(get_config, lookup(names, size, "config size")),
            strict=True,
        )
    )


def base() -> dict[str, Any]:
    """What the generators share."""
    codec = load_config("tokenizer.py:tiny", beside=__file__).to_dict()
    scenes = dict(codec["data"]["train"], weights=(0.2, 0.8))
    return dict(
        seed=0,
        data=dict(
            train=dict(scenes, split="train"),
            valid=dict(scenes, split="valid"),
            loader=dict(seed=0),
            text=dict(vocabulary=512, length=24),
        ),
        codec=dict(workdir="", floors=dict(codebook_usage=0.6, two_objects=0.95), experiment=codec),
        layout=dict(name="dp"),
        training=dict(
            steps=1200,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=200,
            log_every=20,
            evaluate_every=0,
            sample_every=0,
        ),
    )


def autoregressive() -> dict[str, Any]:
    """ERNIE-ViLG 1.0: a transformer in both directions."""
    return base() | dict(
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
            # relative places: without them captions stayed bags of words (two objects .25 after
            # 1,600 steps)
            rotary_base=100.0,
            # the blocks' outputs are of order 1: at 0.02 positions drowned in them, and
            # relations were never learned
            embed_scale=0.5,
            # near codes share what is learned (pairs that were never seen stay at .000 all the
            # same)
            code_embedding="codec",
            text_window=4,  # "red" is known at "circle" before any attention
            image_window=0,
            # about the ratio of counted tokens: a sum over targets, as in the paper, not a mean
            # of means
            image_to_text_weight=0.3,
            caption_every=2,
            drop_text=0.1,
        ),
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            adam_ratio=1.0,
            schedule="linear",
            warmup_steps=30,
            clip=1.0,
        ),
        evals=dict(scenes=dict(n=256, split="test", guidance=1.4, temperature=0.8)),
    )


def diffusion() -> dict[str, Any]:
    """ERNIE-ViLG 2.0's diffusion with one expert, and a DiT in the U-Net's place (the U-Net takes
    more steps: ablations/noise.py).
    """
    config = base()
    config["training"].update(steps=1100, batch_size=64)
    return config | dict(
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                schedule=dict(name="log_linear", sigma_min=0.02, sigma_max=80.0),
                prediction="x0",
                weighting=dict(name="x0"),
                times=dict(
                    name="lognormal", mean=1.7, std=1.0
                ),  # where the caption matters (vilg/evals/caption_gap.py)
            ),
            denoiser=dict(
                name="dit",
                width=128,
                layers=4,
                heads=4,
                mlp_ratio=4.0,
                patch=1,
                zero_gates=False,
                rotary_base=100.0,
                qk_norm=True,
                embed_scale=0.5,
                scan=False,
                remat="none",
                dtype="float32",
            ),
            text=dict(
                width=128,
                layers=1,
                heads=4,
                mlp_ratio=4.0,
                window=4,
                embed_scale=0.5,
                qk_norm=True,
                scan=False,
                remat="none",
                dtype="float32",
            ),
            experts=dict(n=1, split=dict(name="uniform"), train_text=False),
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
        evals=dict(
            scenes=dict(
                n=256,
                split="test",
                captions=False,
                guidance=2.5,
                sampler="ddim",
                steps=20,
                last=0.42,
            )
        ),
    )


def smoke(config: dict[str, Any]) -> dict[str, Any]:
    """The config made small enough for a minute."""
    config["codec"]["experiment"]["training"].update(steps=260, checkpoint_every=130)
    config["codec"].update(floors=dict(codebook_usage=0.05))
    config["training"].update(steps=20)
    config["evals"]["scenes"].update(n=8)
    return config


def autoregressive_smoke() -> dict[str, Any]:
    """`smoke` of the transformer."""
    config = smoke(autoregressive())
    config["generator"].update(width=32, layers=1, heads=1)
    return config


def diffusion_smoke() -> dict[str, Any]:
    """`smoke` of the diffusion model."""
    config = smoke(diffusion())
    config["generator"]["denoiser"].update(width=32, layers=1, heads=1)
    config["generator"]["text"].update(width=32, heads=1)
    config["evals"]["scenes"].update(steps=4)
    return config


SIZES = {
    "default": autoregressive,
    "diffusion": diffusion,
    "smoke": autoregressive_smoke,
    "diffusion_smoke": diffusion_smoke,
}
