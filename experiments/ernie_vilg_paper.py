"""ERNIE-ViLG's transformer in the paper's sizes (arXiv 2112.15283), which need a pod.

    vilg train --config=experiments/ernie_vilg.py:lite --workdir=runs/lite
    vilg plan --config=experiments/ernie_vilg.py:10b --topology=v5p:4x4x4 --layouts=fsdp

size  layers x width x heads  positions           trunk   hardware, time and what to expect
lite  24 x 1024 x 16          64 text + 1024      302 M   not run
10b   48 x 4096 x 64          128 text + 1024     9.66 B  not run

Both train on coco_captions, prepared by tfds; the data of the paper are not public.
Model FLOPs utilization (MFU) below is XLA's estimate for a program compiled without a TPU, as `vilg
plan` gives it ("likely"); experiments/results/README.md has the plans."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config


def get_config(size: str = "lite") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def lite() -> dict:
    """The paper's model of about 300 M parameters: 24 layers, 1024 wide, 16 heads.

    MFU with --flags=tpu_async_gather:

    layout                  v4-128  v5e-256  v5p-128  v6e-256
    group_sharded:shard=16  .357    .347     .355     .185
    fsdp                    .345    .307     .280     .157
    """
    codec = load_config("tokenizer.py:f8_8192", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=dict(
            train=codec["data"]["train"],
            valid=codec["data"]["valid"],
            loader=dict(seed=0),
            text=dict(vocabulary=18_048, length=64, records=200_000),
        ),
        codec=dict(workdir="", floors=dict(codebook_usage=0.3), experiment=codec),
        generator=dict(
            name="autoregressive",
            width=1024,
            layers=24,
            heads=16,
            patterns="ernie_vilg",
            attention="auto",
            scan=True,
            remat="all_named",
            dtype="bfloat16",
            code_embedding="table",
            qk_norm=False,
            rotary_base=0.0,
            embed_scale=0.02,
            image_to_text_weight=1.0,
            caption_every=1,
            drop_text=0.1,
            text_window=0,
            image_window=0,
            directions="together",
        ),
        optimizer=dict(
            kind="adamw",
            learning_rate=4.5e-4,
            schedule="cosine",
            warmup_steps=5000,
            clip=4.0,
            b1=0.9,
            b2=0.96,
            weight_decay=4.5e-2,
        ),
        layout=dict(name="fsdp"),
        training=dict(
            steps=250_000,
            batch_size=512,
            accumulation=1,
            ema=0.9999,
            checkpoint_every=2000,
            log_every=100,
            evaluate_every=0,
            sample_every=10_000,
        ),
        evals=dict(losses=dict(batches=16)),
    )


def ten_billion() -> dict:
    """The paper's 10 B model: 48 layers, 4096 wide, 64 heads.

    Its learning rate, batch and steps are unknown; these are DALL-E's (PAPERS 2.4).
    The best MFU found for pods:

    v5p-128  .722  --flags=tpu_async_gather,tpu_vmem_v5
                   --config.layout.name=group_sharded:shard=16  (under fsdp .708)
    v4-128   .553  --flags=tpu_async_gather --config.training.accumulation=8
    v5e-256  .514  --flags=tpu_async_gather --config.training.accumulation=4
    v6e-256  .433  --flags=tpu_vmem,tpu_sparsecore,tpu_sparsecore_gather
                   --config.generator.remat=all_named
             .352  the same remat with --flags=tpu_async_gather,tpu_reduce_scatter

    The layout is fsdp where the line names none.
    """
    codec = load_config("tokenizer.py:f8_8192", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=dict(
            train=codec["data"]["train"],
            valid=codec["data"]["valid"],
            loader=dict(seed=0),
            text=dict(vocabulary=18_048, length=128, records=200_000),
        ),
        codec=dict(workdir="", floors=dict(codebook_usage=0.3), experiment=codec),
        generator=dict(
            name="autoregressive",
            width=4096,
            layers=48,
            heads=64,
            patterns="ernie_vilg",
            attention="auto",
            scan=True,
            remat="qkv_attention_middle_mlp",
            dtype="bfloat16",
            code_embedding="table",
            qk_norm=False,
            rotary_base=0.0,
            embed_scale=0.02,
            image_to_text_weight=1.0,
            caption_every=1,
            drop_text=0.1,
            text_window=0,
            image_window=0,
            directions="together",
        ),
        optimizer=dict(
            kind="adamw",
            learning_rate=4.5e-4,
            schedule="cosine",
            warmup_steps=5000,
            clip=4.0,
            b1=0.9,
            b2=0.96,
            weight_decay=4.5e-2,
        ),
        layout=dict(name="fsdp"),
        training=dict(
            steps=430_000,
            batch_size=1024,
            accumulation=2,
            ema=0.9999,
            checkpoint_every=2000,
            log_every=100,
            evaluate_every=0,
            sample_every=10_000,
        ),
        evals=dict(losses=dict(batches=16)),
    )


SIZES = {"lite": lite, "10b": ten_billion}
