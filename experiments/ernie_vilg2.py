"""ERNIE-ViLG 2.0 (arXiv 2210.15257): latent diffusion with a mixture of denoising experts.

    vilg train --config=experiments/ernie_vilg2.py:tiny --workdir=runs/tiny2
    vilg sample --workdir=runs/tiny2 --prompt='a large red circle' --sampler=dpmpp_2m --out=out
    vilg evaluate --workdir=runs/tiny2 --out=runs/tiny2/scores.json

size          denoiser                      hardware, time and what to expect
tiny          U-Net of 32 channels          146 CPU-seconds with its codec: shows that everything
                                            runs, too small to draw well
tiny_experts  2 experts, copies of `tiny`   not run to the end; trains `tiny` first
emoji         DiT of 4 layers, 192 wide     2,950 CPU-seconds with its codec, one busy core: of
                                            unseen concepts the own caption is the best of 16 in
                                            .26 (zh) and .42 (en), by chance in .06

Sizes in files beside this one, which FILE:SIZE of this file finds too: small, with its earlier
stages small_plain and small_snapped (ernie_vilg2_small.py), ablation, paper_dense and paper
(ernie_vilg2_paper.py).

A generator's data.train and data.valid are its codec's own sections (`codec["data"]["train"]`), so
that an override of the one, such as --config.data.train.path=DIR, reaches the other. Scores and
their intervals: experiments/results/README.md."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config, load_file


def get_config(size: str = "tiny") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def tiny() -> dict:
    """For trying the machinery: it trains from nothing, its codec included."""
    codec = load_config("tokenizer.py:tiny", beside=__file__).to_dict()
    codec["training"]["steps"] = 300
    return dict(
        seed=0,
        data=dict(
            train=codec["data"]["train"],
            valid=codec["data"]["valid"],
            loader=dict(seed=0),
            text=dict(vocabulary=512, length=24),
        ),
        codec=dict(workdir="", floors=dict(codebook_usage=0.3), experiment=codec),
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                schedule=dict(name="log_linear", sigma_min=0.02, sigma_max=80.0),
                prediction="x0",
                weighting=dict(name="x0"),
                # the noise at which the caption matters on these scenes (vilg/evals/caption_gap.py)
                times=dict(name="lognormal", mean=1.7, std=1.0),
            ),
            denoiser=dict(
                name="unet",
                channels=32,
                multipliers=(1, 2),
                blocks=1,
                attention=(1, 2),
                head_width=16,
                groups=16,
                scan=False,
                remat="none",
                dtype="float32",
            ),
            text=dict(
                width=64,
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
            experts=dict(n=1, split=dict(name="uniform"), only=-1, train_text=False),
            knowledge=dict(
                attention_weight=0.0, attention_mode="prob", region_weight=0.0, region_power=1.0
            ),
            drop_text=0.1,
        ),
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            adam_ratio=0.3,
            schedule="linear",
            decay_share=0.3,
            warmup_steps=20,
            clip=1.0,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=200,
            batch_size=32,
            accumulation=1,
            ema=0.99,
            checkpoint_every=100,
            log_every=10,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(
            losses=dict(batches=2),
            scenes=dict(
                n=32,
                split="valid",
                captions=False,
                guidance=2.0,
                sampler="ddim",
                steps=20,
                last=0.42,
            ),
        ),
    )


def tiny_experts() -> dict:
    """Two experts that start as copies of `tiny`, each trained on its half of the noise levels.

    The text encoder stays as `tiny` left it.
    """
    codec = load_config("tokenizer.py:tiny", beside=__file__).to_dict()
    codec["training"]["steps"] = 300
    return dict(
        seed=0,
        data=dict(
            train=codec["data"]["train"],
            valid=codec["data"]["valid"],
            loader=dict(seed=0),
            text=dict(vocabulary=512, length=24),
        ),
        codec=dict(workdir="", floors=dict(codebook_usage=0.3), experiment=codec),
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                schedule=dict(name="log_linear", sigma_min=0.02, sigma_max=80.0),
                prediction="x0",
                weighting=dict(name="x0"),
                # the noise at which the caption matters on these scenes (vilg/evals/caption_gap.py)
                times=dict(name="lognormal", mean=1.7, std=1.0),
            ),
            denoiser=dict(
                name="unet",
                channels=32,
                multipliers=(1, 2),
                blocks=1,
                attention=(1, 2),
                head_width=16,
                groups=16,
                scan=False,
                remat="none",
                dtype="float32",
            ),
            text=dict(
                width=64,
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
            experts=dict(n=2, split=dict(name="uniform"), only=-1, train_text=False),
            knowledge=dict(
                attention_weight=0.0, attention_mode="prob", region_weight=0.0, region_power=1.0
            ),
            drop_text=0.1,
        ),
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            adam_ratio=0.3,
            schedule="linear",
            decay_share=0.3,
            warmup_steps=20,
            clip=1.0,
        ),
        layout=dict(name="expert"),
        training=dict(
            steps=60,
            batch_size=32,
            accumulation=1,
            ema=0.99,
            checkpoint_every=100,
            log_every=10,
            evaluate_every=0,
            sample_every=0,
            first=tiny(),
        ),
        evals=dict(
            losses=dict(batches=2),
            scenes=dict(
                n=32,
                split="valid",
                captions=False,
                guidance=2.0,
                sampler="ddim",
                steps=20,
                last=0.42,
            ),
        ),
    )


def emoji() -> dict:
    """Pictures of emoji at 64 px with their Chinese and English names.

    Run `vilg data prepare emoji --out=runs/data/emoji` first. Which emoji are for training and
    which for validation stands in a table outside this repository, whose path is the field
    data.train.split (see tokenizer.py:emoji).
    """
    codec = load_config("tokenizer.py:kl_emoji", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=dict(
            train=codec["data"]["train"],
            valid=codec["data"]["valid"],
            loader=dict(seed=0),
            text=dict(vocabulary=4096, length=32, records=20_000),
        ),
        codec=dict(workdir="", floors={}, experiment=codec),
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                schedule=dict(name="log_linear", sigma_min=0.02, sigma_max=80.0),
                prediction="x0",
                weighting=dict(name="x0"),
                times=dict(name="lognormal", mean=1.2, std=1.3),
            ),
            denoiser=dict(
                name="dit",
                width=192,
                layers=4,
                heads=6,
                mlp_ratio=4.0,
                patch=2,  # 64 patches, as many as in `small`
                zero_gates=False,
                rotary_base=100.0,
                qk_norm=True,
                embed_scale=0.5,
                scan=False,
                remat="none",
                dtype="float32",
            ),
            text=dict(
                width=192,
                layers=1,
                heads=6,
                mlp_ratio=4.0,
                window=0,
                embed_scale=0.5,
                qk_norm=True,
                scan=False,
                remat="none",
                dtype="float32",
            ),
            experts=dict(n=1, split=dict(name="uniform"), only=-1, train_text=False),
            knowledge=dict(
                attention_weight=0.0, attention_mode="prob", region_weight=0.0, region_power=1.0
            ),
            drop_text=0.1,
        ),
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            adam_ratio=0.3,
            schedule="linear",
            decay_share=0.3,
            warmup_steps=30,
            clip=1.0,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=1300,
            batch_size=64,
            accumulation=1,
            ema=0.999,
            checkpoint_every=100,
            log_every=20,
            evaluate_every=0,
            sample_every=1000,
            keep_last=2,
        ),
        evals=dict(
            losses=dict(batches=8),
            twins=dict(n=128, choices=16, guidance=2.5, sampler="ddim", steps=30, last=0.28),
            caption_gap=dict(records=512),
        ),
    )


SIZES = {
    "tiny": tiny,
    "tiny_experts": tiny_experts,
    **load_file("ernie_vilg2_small.py", beside=__file__).SIZES,
    "emoji": emoji,
    **load_file("ernie_vilg2_paper.py", beside=__file__).SIZES,
}
