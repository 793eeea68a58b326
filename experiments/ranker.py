r"""A dual encoder of pictures and of Chinese and English texts (CLIP, arXiv 2103.00020).

It is the ranker that chooses the best of N samples, and gives a score to filter captions by.

    vilg train --config=experiments/ranker.py:tiny --workdir=runs/ranker
    vilg evaluate --workdir=runs/ranker --out=runs/ranker/scores.json
    vilg sample --workdir=runs/quickstart/diffusion --prompt='a large red circle' --best_of=4 \
        --ranker=runs/ranker --out=out
    vilg data rank --source=synthetic:valid,n=1000,snap=4,max_objects=2,groups=0,backgrounds=plain \
        --ranker=runs/ranker --out=scores.jsonl

size   image tower, text tower  hardware, time and what to expect
tiny   ViT 3 x 128, 1 x 128     139 CPU-seconds beside other work: recall@1 among 256 is .94 to .96
small  ViT 4 x 192, 2 x 192     not run
emoji  ViT 6 x 256, 2 x 256     not run
b16    ViT-B/16, 12 x 512       not run

Towers are layers x width. `tiny` (one seed) tells the picture's own caption from one with another
colour or size in 1.00, another shape in .95, exchanged colours in .82 and the opposite relation in
.52 of the cases; chance is .5. So it does not know left from right, and cannot choose by direction.
With it the best of 4 of the quickstart's diffusion model, 64 test prompts a cell, are right in .984
of the two-object prompts (all candidates .938, the first of each four .969) and in .719 of the
pairs of colour and shape that training never showed (.672 and .672).

The codec is `pixels`, which has nothing to train. The loss compares all rows of a batch with each
other, so training.accumulation stays 1."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config


def get_config(size: str = "tiny") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def pixels(size: str, patch: int) -> dict:
    """The codec's experiment: the data of a size of tokenizer.py, and pictures as they are.

    A position is a patch of `patch` x `patch` pixels.
    """
    tokenizer = load_config(f"tokenizer.py:{size}", beside=__file__).to_dict()
    image_size = tokenizer["codec"]["image_size"]
    codec = dict(name="pixels", image_size=image_size, patch=patch)
    return dict(tokenizer, codec=codec, evals={})


def tiny() -> dict:
    """The scenes of the quickstart."""
    # with patches of 4 pixels 200 updates took as long as 450 of these
    codec = pixels("tiny", patch=8)
    return dict(
        seed=0,
        data=dict(
            train=dict(codec["data"]["train"], weights=(0.2, 0.8)),
            valid=dict(codec["data"]["valid"], weights=(0.2, 0.8)),
            loader=dict(seed=0),
            text=dict(vocabulary=512, length=24),
        ),
        codec=dict(workdir="", floors={}, experiment=codec),
        generator=dict(
            name="dual_encoder",
            image=dict(
                width=128,
                layers=3,
                heads=4,
                mlp_ratio=2.0,
                patch=1,
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
            projection=128,
            first_scale=14.3,
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
            steps=700,
            batch_size=64,
            accumulation=1,
            ema=0.0,
            checkpoint_every=100,
            log_every=20,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(retrieval=dict(n=256, changes=256)),
    )


def small() -> dict:
    """All of the synthetic scenes: up to three objects anywhere, groups, every background."""
    codec = pixels("small", patch=4)
    return dict(
        seed=0,
        data=dict(
            train=dict(codec["data"]["train"], weights=(0.2, 0.6, 0.2)),
            valid=codec["data"]["valid"],
            loader=dict(seed=0),
            text=dict(vocabulary=640, length=40),
        ),
        codec=dict(workdir="", floors={}, experiment=codec),
        generator=dict(
            name="dual_encoder",
            image=dict(
                width=192,
                layers=4,
                heads=6,
                mlp_ratio=2.0,
                patch=1,
                rotary_base=100.0,
                qk_norm=True,
                embed_scale=0.5,
                scan=False,
                remat="none",
                dtype="float32",
            ),
            text=dict(
                width=192,
                layers=2,
                heads=6,
                mlp_ratio=4.0,
                window=4,
                embed_scale=0.5,
                qk_norm=True,
                scan=False,
                remat="none",
                dtype="float32",
            ),
            projection=128,
            first_scale=14.3,
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
            steps=3000,
            batch_size=64,
            accumulation=1,
            ema=0.0,
            checkpoint_every=250,
            log_every=20,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(retrieval=dict(n=256, changes=256)),
    )


def emoji() -> dict:
    """Pictures of emoji at 64 px with their Chinese and English names.

    Run `vilg data prepare emoji --out=runs/data/emoji` first. Which emoji are for training and
    which for validation stands in a table outside this repository, whose path is the field
    data.train.split (see tokenizer.py:emoji).
    """
    codec = pixels("emoji", patch=8)
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
            name="dual_encoder",
            image=dict(
                width=256,
                layers=6,
                heads=8,
                mlp_ratio=4.0,
                patch=1,
                rotary_base=100.0,
                qk_norm=True,
                embed_scale=0.5,
                scan=False,
                remat="none",
                dtype="float32",
            ),
            text=dict(
                width=256,
                layers=2,
                heads=8,
                mlp_ratio=4.0,
                window=0,
                embed_scale=0.5,
                qk_norm=True,
                scan=False,
                remat="none",
                dtype="float32",
            ),
            projection=128,
            first_scale=14.3,
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
            steps=3000,
            batch_size=256,
            accumulation=1,
            ema=0.999,
            checkpoint_every=250,
            log_every=20,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(retrieval=dict(n=256, changes=256)),
    )


def b16() -> dict:
    """CLIP's ViT-B/16: its towers, projection, batch and optimizer (CLIP, tables 18 to 20).

    It differs from CLIP in that pictures have 256 px instead of 224, the picture's vector is the
    mean of the patches instead of a class token, texts see in both directions, and the data
    (coco_captions, prepared by tfds) are a small part of CLIP's 400 million pairs.
    """
    codec = pixels("f8_8192", patch=16)
    return dict(
        seed=0,
        data=dict(
            train=codec["data"]["train"],
            valid=codec["data"]["valid"],
            loader=dict(seed=0, random_crop=True),
            text=dict(vocabulary=21_128, length=77, records=200_000),
        ),
        codec=dict(workdir="", floors={}, experiment=codec),
        generator=dict(
            name="dual_encoder",
            image=dict(
                width=768,
                layers=12,
                heads=12,
                patch=1,
                rotary_base=0.0,
                mlp_ratio=4.0,
                embed_scale=0.02,
                qk_norm=False,
                scan=True,
                remat="full",
                dtype="bfloat16",
            ),
            text=dict(
                width=512,
                layers=12,
                heads=8,
                window=0,
                mlp_ratio=4.0,
                embed_scale=0.02,
                qk_norm=False,
                scan=True,
                remat="full",
                dtype="bfloat16",
            ),
            projection=512,
            first_scale=14.3,
        ),
        optimizer=dict(
            kind="adamw",
            learning_rate=5e-4,
            schedule="cosine",
            warmup_steps=2000,
            clip=0.0,
            b1=0.9,
            b2=0.98,
            eps=1e-6,
            weight_decay=0.2,
        ),
        layout=dict(name="fsdp"),
        training=dict(
            steps=390_000,
            batch_size=32_768,
            accumulation=1,
            ema=0.0,
            checkpoint_every=2000,
            log_every=100,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(retrieval=dict(n=4096, changes=0)),
    )


SIZES = {"tiny": tiny, "small": small, "emoji": emoji, "b16": b16}
