"""The quickstart: both generators of ERNIE-ViLG at toy size, from nothing on two CPU cores.

    ./launch/quickstart.sh

Pictures are synthetic scenes of 32x32 pixels: one or two objects of 8 colours, 6 shapes and 3
sizes, in 4 relations, on a plain background, with centres snapped to the codec's 4-pixel patches. A
tenth of the pairs of colour and shape is withheld from training. One VQ codec of 8x8 codes serves
both generators: the transformer (ERNIE-ViLG, arXiv 2112.15283) draws its ids, the diffusion model
(ERNIE-ViLG 2.0, arXiv 2210.15257; a DiT, one expert) its latents.

size             generator      what to expect
default          transformer    one object right in .992, two in .887 of the prompts; captions right
                                in 1.000 and .555
diffusion        diffusion      one object right in .941, two in .844; withheld pairs .727 and .656
smoke            transformer    every stage of `default` in a minute
diffusion_smoke  diffusion      every stage of `diffusion` in a minute

Figures are of one run on the test split (commit b905b22): 1,980 CPU-seconds and 20.6 minutes on two
cores, the codec included (experiments/results/README.md)."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config


def get_config(size: str = "default") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def generators(size: str = "default") -> dict[str, ConfigDict]:
    """The two experiments that `vilg quickstart` trains, by the name of their directory.

    `size` is "default" or "smoke".
    """
    sizes = {"default": ("default", "diffusion"), "smoke": ("smoke", "diffusion_smoke")}
    transformer, diffusion = lookup(sizes, size, "config size")
    return {"autoregressive": get_config(transformer), "diffusion": get_config(diffusion)}


def autoregressive() -> dict:
    """ERNIE-ViLG: a transformer for text to image and for image to text."""
    codec = load_config("tokenizer.py:tiny", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=dict(
            train=dict(codec["data"]["train"], weights=(0.2, 0.8)),  # of one and of two objects
            valid=dict(codec["data"]["valid"], weights=(0.2, 0.8)),
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
            # relative positions: without them captions were bags of words (two objects .25 after
            # 1,600 steps)
            rotary_base=100.0,
            # the blocks' outputs are of order 1: at a scale of .02 positions drowned in them, and
            # relations were never learned
            embed_scale=0.5,
            # near codes share what is learned of them (pairs that training never showed stay at
            # .000 all the same)
            code_embedding="codec",
            text_window=4,  # "circle" knows of "red" before any attention
            image_window=0,
            # about the number of text targets over that of image targets, so that the loss is a
            # sum over all targets, as in the paper, and not over the means of two directions
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
        evals=dict(scenes=dict(n=256, split="test", guidance=1.4, temperature=0.8)),
    )


def diffusion() -> dict:
    """ERNIE-ViLG 2.0's diffusion with one expert, and a DiT in the place of the U-Net.

    experiments/ablations/noise.py trains a U-Net on the same scenes.
    """
    codec = load_config("tokenizer.py:tiny", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=dict(
            train=dict(codec["data"]["train"], weights=(0.2, 0.8)),  # of one and of two objects
            valid=dict(codec["data"]["valid"], weights=(0.2, 0.8)),
            loader=dict(seed=0),
            text=dict(vocabulary=512, length=24),
        ),
        codec=dict(workdir="", floors=dict(codebook_usage=0.6, two_objects=0.95), experiment=codec),
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                schedule=dict(name="log_linear", sigma_min=0.02, sigma_max=80.0),
                prediction="x0",
                weighting=dict(name="x0"),
                # of log(sigma / alpha): on such scenes the caption matters at sigma / alpha of 2 to
                # 30 (vilg/evals/caption_gap.py measures it)
                times=dict(name="lognormal", mean=1.7, std=1.0),
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
        layout=dict(name="dp"),
        training=dict(
            steps=1100,
            batch_size=64,
            accumulation=1,
            ema=0.0,
            checkpoint_every=200,
            log_every=20,
            evaluate_every=0,
            sample_every=0,
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


def autoregressive_smoke() -> dict:
    """`autoregressive`, small enough for a minute."""
    codec = load_config("tokenizer.py:tiny", beside=__file__).to_dict()
    codec["training"].update(steps=260, checkpoint_every=130)
    return dict(
        seed=0,
        data=dict(
            train=dict(codec["data"]["train"], weights=(0.2, 0.8)),  # of one and of two objects
            valid=dict(codec["data"]["valid"], weights=(0.2, 0.8)),
            loader=dict(seed=0),
            text=dict(vocabulary=512, length=24),
        ),
        codec=dict(workdir="", floors=dict(codebook_usage=0.05), experiment=codec),
        generator=dict(
            name="autoregressive",
            width=32,
            layers=1,
            heads=1,
            patterns="dense",
            attention="dense",
            scan=False,
            remat="none",
            dtype="float32",
            qk_norm=True,
            rotary_base=100.0,
            embed_scale=0.5,
            code_embedding="codec",
            text_window=4,
            image_window=0,
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
        layout=dict(name="dp"),
        training=dict(
            steps=20,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=200,
            log_every=20,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(scenes=dict(n=8, split="test", guidance=1.4, temperature=0.8)),
    )


def diffusion_smoke() -> dict:
    """`diffusion`, small enough for a minute."""
    codec = load_config("tokenizer.py:tiny", beside=__file__).to_dict()
    codec["training"].update(steps=260, checkpoint_every=130)
    return dict(
        seed=0,
        data=dict(
            train=dict(codec["data"]["train"], weights=(0.2, 0.8)),  # of one and of two objects
            valid=dict(codec["data"]["valid"], weights=(0.2, 0.8)),
            loader=dict(seed=0),
            text=dict(vocabulary=512, length=24),
        ),
        codec=dict(workdir="", floors=dict(codebook_usage=0.05), experiment=codec),
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
                width=32,
                layers=1,
                heads=1,
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
                width=32,
                layers=1,
                heads=1,
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
        layout=dict(name="dp"),
        training=dict(
            steps=20,
            batch_size=64,
            accumulation=1,
            ema=0.0,
            checkpoint_every=200,
            log_every=20,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(
            scenes=dict(
                n=8, split="test", captions=False, guidance=2.5, sampler="ddim", steps=4, last=0.42
            )
        ),
    )


SIZES = {
    "default": autoregressive,
    "diffusion": diffusion,
    "smoke": autoregressive_smoke,
    "diffusion_smoke": diffusion_smoke,
}
