"""ERNIE-ViLG 2.0 in the paper's sizes (arXiv 2210.15257; PAPERS 1.1), which need a pod.

    vilg train --config=experiments/ernie_vilg2.py:paper --workdir=runs/paper
    vilg plan --config=experiments/ernie_vilg2.py:paper --topology=v5p:4x4x4 --layouts=expert

size         U-Net         text encoder  hardware, time and what to expect
ablation     874 M         500 M         not run
paper_dense  2.24 B        1.25 B        not run
paper        10 x 2.24 B   1.25 B        not run; trains paper_dense first

Of the paper's learning rate, batch, steps and drop-out only a part is known (PAPERS 1.1 and
PAPERS 1.9); each unknown value is a field here. All sizes train on coco_captions, prepared by
tfds; the data of the paper are not public.

Model FLOPs utilization (MFU) below is XLA's estimate for a program compiled without a TPU with
--flags=tpu_quick_compile, as `vilg plan` gives it ("likely"); experiments/results/README.md has the
plans."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config


def get_config(size: str = "paper_dense") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def ablation() -> dict:
    """The model of the paper's ablations, on 256 px (32x32 latents).

    MFU of a training step under the best layout: v5p-128 .119 (fsdp), v4-128 .155 (zero2),
    v5e-256 .072 and v6e-256 .033 (group_sharded:shard=64).
    """
    codec = load_config("tokenizer.py:kl_f8", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=dict(
            train=codec["data"]["train"],
            valid=codec["data"]["valid"],
            loader=dict(seed=0, random_crop=True),
            text=dict(vocabulary=21_128, length=77, records=200_000),
            knowledge=dict(tags=0.5, attention=0.5, regions=0.5, completion=0.5, replacement=0.1),
        ),
        codec=dict(workdir="", floors={}, experiment=codec),
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                # the paper says "linear", which is what LDM calls this schedule (PAPERS 1.5)
                schedule=dict(name="ldm_linear"),
                prediction="eps",
                weighting=dict(name="unit"),
                times=dict(name="table"),
            ),
            denoiser=dict(
                name="unet",
                channels=320,
                multipliers=(1, 2, 3, 4),
                blocks=3,
                attention=(2, 4, 8),
                head_width=64,
                groups=32,
                scan=True,
                remat="none",
                dtype="bfloat16",
            ),
            text=dict(
                width=1280,
                layers=24,
                heads=20,
                mlp_ratio=4.0,
                window=0,
                embed_scale=0.02,
                qk_norm=False,
                scan=True,
                remat="none",
                dtype="bfloat16",
            ),
            experts=dict(n=1, split=dict(name="uniform"), only=-1, train_text=False),
            knowledge=dict(
                attention_weight=0.01, attention_mode="prob", region_weight=0.1, region_power=1.0
            ),
            drop_text=0.1,
        ),
        optimizer=dict(
            kind="adamw",
            learning_rate=9e-5,
            schedule="constant",
            warmup_steps=10_000,
            clip=1.0,
            b1=0.9,
            b2=0.999,
            weight_decay=0.01,
        ),
        layout=dict(name="fsdp"),
        training=dict(
            steps=100_000,
            batch_size=2048,
            accumulation=1,
            ema=0.9999,
            checkpoint_every=2000,
            log_every=100,
            evaluate_every=0,
            sample_every=10_000,
        ),
        evals=dict(losses=dict(batches=16), caption_gap=dict(records=512)),
    )


def paper_dense() -> dict:
    """Stage 1 of the paper: one expert and the text encoder."""
    codec = load_config("tokenizer.py:kl_f8", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=dict(
            train=codec["data"]["train"],
            valid=codec["data"]["valid"],
            loader=dict(seed=0, random_crop=True),
            text=dict(vocabulary=21_128, length=77, records=200_000),
            knowledge=dict(tags=0.5, attention=0.5, regions=0.5, completion=0.5, replacement=0.1),
        ),
        codec=dict(workdir="", floors={}, experiment=codec),
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                # the paper says "linear", which is what LDM calls this schedule (PAPERS 1.5)
                schedule=dict(name="ldm_linear"),
                prediction="eps",
                weighting=dict(name="unit"),
                times=dict(name="table"),
            ),
            denoiser=dict(
                name="unet",
                channels=512,
                multipliers=(1, 2, 3, 4),
                blocks=3,
                attention=(2, 4, 8),
                head_width=64,
                groups=32,
                scan=True,
                remat="none",
                dtype="bfloat16",
            ),
            text=dict(
                width=2048,
                layers=24,
                heads=32,
                mlp_ratio=4.0,
                window=0,
                embed_scale=0.02,
                qk_norm=False,
                scan=True,
                remat="none",
                dtype="bfloat16",
            ),
            experts=dict(n=1, split=dict(name="uniform"), only=-1, train_text=False),
            knowledge=dict(
                attention_weight=0.01, attention_mode="prob", region_weight=0.1, region_power=1.0
            ),
            drop_text=0.1,
        ),
        optimizer=dict(
            kind="adamw",
            learning_rate=9e-5,
            schedule="constant",
            warmup_steps=10_000,
            clip=1.0,
            b1=0.9,
            b2=0.999,
            weight_decay=0.01,
        ),
        layout=dict(name="fsdp"),
        training=dict(
            steps=350_000,
            batch_size=2048,
            accumulation=1,
            ema=0.9999,
            checkpoint_every=2000,
            log_every=100,
            evaluate_every=0,
            sample_every=10_000,
        ),
        evals=dict(losses=dict(batches=16), caption_gap=dict(records=512)),
    )


def paper() -> dict:
    """Stage 2 of the paper: ten experts that start as copies of stage 1, each on a tenth of time.

    With --config.generator.experts.only=K a job trains the K-th expert alone. MFU of a training
    step, for one job an expert (its batch is 2,048) and for one job of all experts:

    experts  v5p-128  v4-128  v5e-256  v6e-256
    one      .155     .212    .113     .063   under fsdp on v5p and v4, group_sharded:shard=64 on
                                              v5e and v6e (v6e with the flag tpu_large_stack too)
    ten      .055     .050    .043     .019   under expert; on v4 with training.accumulation=2

    One evaluation of the denoiser for 2,560 pictures (`vilg plan --program=sample`, no flags) is
    estimated at an MFU of .527 on v5p-128 under expert, and takes 1.5 GiB a chip.
    """
    codec = load_config("tokenizer.py:kl_f8", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=dict(
            train=codec["data"]["train"],
            valid=codec["data"]["valid"],
            loader=dict(seed=0, random_crop=True),
            text=dict(vocabulary=21_128, length=77, records=200_000),
            knowledge=dict(tags=0.5, attention=0.5, regions=0.5, completion=0.5, replacement=0.1),
        ),
        codec=dict(workdir="", floors={}, experiment=codec),
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                # the paper says "linear", which is what LDM calls this schedule (PAPERS 1.5)
                schedule=dict(name="ldm_linear"),
                prediction="eps",
                weighting=dict(name="unit"),
                times=dict(name="table"),
            ),
            denoiser=dict(
                name="unet",
                channels=512,
                multipliers=(1, 2, 3, 4),
                blocks=3,
                attention=(2, 4, 8),
                head_width=64,
                groups=32,
                scan=True,
                remat="none",
                dtype="bfloat16",
            ),
            text=dict(
                width=2048,
                layers=24,
                heads=32,
                mlp_ratio=4.0,
                window=0,
                embed_scale=0.02,
                qk_norm=False,
                scan=True,
                remat="none",
                dtype="bfloat16",
            ),
            experts=dict(n=10, split=dict(name="uniform"), only=-1, train_text=False),
            knowledge=dict(
                attention_weight=0.01, attention_mode="prob", region_weight=0.1, region_power=1.0
            ),
            drop_text=0.1,
        ),
        optimizer=dict(
            kind="adamw",
            learning_rate=9e-5,
            schedule="constant",
            warmup_steps=10_000,
            clip=1.0,
            b1=0.9,
            b2=0.999,
            weight_decay=0.01,
        ),
        layout=dict(name="expert"),
        training=dict(
            steps=90_000,
            batch_size=2560,
            accumulation=1,
            ema=0.9999,
            checkpoint_every=2000,
            log_every=100,
            evaluate_every=0,
            sample_every=10_000,
            first=paper_dense(),
        ),
        evals=dict(losses=dict(batches=16), caption_gap=dict(records=512)),
    )


SIZES = {"ablation": ablation, "paper_dense": paper_dense, "paper": paper}
