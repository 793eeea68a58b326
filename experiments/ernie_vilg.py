"""ERNIE-ViLG 1.0 (arXiv 2112.15283): one transformer, text to image and image to text.

    vilg train --config=experiments/ernie_vilg.py:tiny --workdir=runs/tiny

size   layers x width x heads  positions           data                 hardware, time, what to expect
tiny   2 x 64 x 2              24 text + 64 image  synthetic, snapped   70 CPU-seconds from nothing; only shows that it runs
small  4 x 192 x 6             40 text + 64 image  synthetic, all of it 55 minutes of two idle cores: .941 / .680, captions .992 / .652
emoji  6 x 192 x 6             32 text + 64 image  emoji at 64 px       23 minutes of two cores after its codec's 27: 5.0 nats a code
lite   24 x 1024 x 16          64 text + 1024      coco_captions (tfds) not run (302 M in the trunk)
10b    48 x 4096 x 64          128 text + 1024     shards               not run (9.66 B in the trunk)

`small` trains small_snapped and small_plain first (training.first), from one command; both are
sizes of their own too."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config


def get_config(size: str = "tiny") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def tokenizer(size: str) -> dict:
    """The codec's whole experiment."""
    return load_config(f"tokenizer.py:{size}", beside=__file__).to_dict()


def tiny() -> dict:
    """For trying the machinery: trains from nothing, codec included, in three CPU-minutes."""
    codec = tokenizer("tiny")
    codec["training"].update(steps=300)
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
            name="autoregressive",
            width=64,
            layers=2,
            heads=2,
            patterns="dense",
            attention="blockwise",
            scan=False,  # unrolled layers are a quarter faster on a CPU
            remat="none",
            dtype="float32",
            code_embedding="codec",
            qk_norm=True,
            rotary_base=100.0,
            embed_scale=0.5,
            image_to_text_weight=0.2,
            caption_every=2,
            drop_text=0.1,
            text_window=0,
            image_window=0,
        ),
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            adam_ratio=1.0,
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
            losses=dict(batches=2), scenes=dict(n=32, split="valid", guidance=2.0, temperature=0.8)
        ),
    )


def small_alone(steps: int, learning_rate: float) -> dict:
    """All of `synthetic`, from nothing: up to three objects anywhere, counts, every background."""
    config, codec = tiny(), tokenizer("small")
    train = dict(codec["data"]["train"], weights=(0.2, 0.6, 0.2))
    config["data"].update(
        train=train, valid=codec["data"]["valid"], text=dict(vocabulary=640, length=40)
    )
    config["codec"].update(experiment=codec, floors=dict(codebook_usage=0.5, two_objects=0.85))
    config["generator"].update(
        width=192,
        layers=4,
        heads=6,
        caption_every=2,
        image_to_text_weight=0.3,
        text_window=4,
        image_window=1,
    )
    config["optimizer"].update(learning_rate=learning_rate, schedule="linear", warmup_steps=50)
    config["training"].update(
        steps=steps,
        batch_size=32,
        ema=0.0,
        checkpoint_every=200,
        keep_last=2,
        log_every=20,
        sample_every=1000,
    )
    config["evals"] = dict(
        losses=dict(batches=4),
        scenes=dict(n=256, split="test", guidance=1.7, temperature=0.9, top_p=0.95),
    )
    return config


def small() -> dict:
    """All of `synthetic`, after small_plain, after small_snapped: what is said is learned where
    little else is to be learned.
    """
    config = small_alone(4000, 0.012)
    config["training"].update(first=small_plain())
    return config


def small_plain() -> dict:
    """The second part of `small`: objects anywhere on the plain background, whose codes hide
    nothing of the objects.
    """
    config = easier(
        small_alone(1200, 0.012), dict(backgrounds=("plain",)), codebook_usage=0.2
    )  # most codes are backgrounds'
    config["training"].update(first=small_snapped())
    return config


def small_snapped() -> dict:
    """The first part of `small`: centres on the codec's grid too, so that few codes are to be told
    apart.
    """
    return easier(
        small_alone(600, 0.012), dict(backgrounds=("plain",), snap=4), codebook_usage=0.05
    )


def easier(config: dict, scenes: dict, codebook_usage: float) -> dict:
    """The config on some of the scenes, its learning rate left high for what comes after."""
    for part in ("train", "valid"):
        config["data"][part].update(scenes)
    config["codec"].update(floors=dict(codebook_usage=codebook_usage, two_objects=0.8))
    config["optimizer"].update(end_ratio=0.3)
    return config


def emoji() -> dict:
    """Real bilingual data: `vilg data prepare emoji --out=runs/data/emoji` first, and the table of
    splits beside the clone (codec.experiment.data.*.split in tokenizer.py; an `id`/`split`
    .tsv)."""
    config, codec = small_alone(1800, 0.008), tokenizer("emoji")
    config["data"].update(
        train=codec["data"]["train"],
        valid=codec["data"]["valid"],
        text=dict(vocabulary=4096, length=32, records=20_000),
    )
    config["codec"].update(experiment=codec, floors=dict(codebook_usage=0.3))
    config["generator"].update(
        layers=6, code_embedding="table", image_to_text_weight=0.2, text_window=0, image_window=0
    )
    config["training"].update(sample_every=600)
    config["evals"] = dict(
        losses=dict(batches=8), twins=dict(n=128, choices=16, guidance=1.4, temperature=0.8)
    )
    return config


def lite() -> dict:
    """The paper's ~300 M model: 24 layers, 1024 wide, 16 heads.

    The best layout found for pods is group_sharded:shard=16, XLA-estimated likely MFU with
    --flags=tpu_async_gather (experiments/results/README.md): v4-128 .357, v5e-256 .347, v5p-128
    .355, v6e-256 .185 (fsdp .345, .307, .280, .157)."""
    config, codec = tiny(), tokenizer("f8_8192")
    config["data"].update(
        train=codec["data"]["train"],
        valid=codec["data"]["valid"],
        text=dict(vocabulary=18_048, length=64, records=200_000),
    )
    config["codec"].update(experiment=codec, floors=dict(codebook_usage=0.3))
    config["generator"].update(
        width=1024,
        layers=24,
        heads=16,
        patterns="ernie_vilg",
        dtype="bfloat16",
        remat="all_named",
        scan=True,
        caption_every=1,
    )
    config["generator"].update(attention="auto", directions="together")
    config["generator"].update(
        code_embedding="table",
        qk_norm=False,
        rotary_base=0.0,
        embed_scale=0.02,
        image_to_text_weight=1.0,
    )
    config["optimizer"] = dict(
        kind="adamw",
        learning_rate=4.5e-4,
        schedule="cosine",
        warmup_steps=5000,
        clip=4.0,
        b1=0.9,
        b2=0.96,
        weight_decay=4.5e-2,
    )
    config["layout"].update(name="fsdp")
    config["training"].update(
        steps=250_000,
        batch_size=512,
        ema=0.9999,
        checkpoint_every=2000,
        log_every=100,
        sample_every=10_000,
    )
    config["evals"] = dict(losses=dict(batches=16))
    return config


def ten_billion() -> dict:
    """The paper's 10 B model: 48 layers, 4096 wide, 64 heads. Its learning rate, batch and steps
    are unknown; these are DALL-E's.

    The best found for pods, XLA-estimated likely MFU, of fsdp where no layout is named (experiments/results/README.md, "Plans of 10b"):
    v5p-128  .722  --flags=tpu_async_gather,tpu_vmem_v5 --config.layout.name=group_sharded:shard=16 (fsdp .708)
    v4-128   .553  --flags=tpu_async_gather --config.training.accumulation=8
    v5e-256  .514  --flags=tpu_async_gather --config.training.accumulation=4
    v6e-256  .433  --flags=tpu_vmem,tpu_sparsecore,tpu_sparsecore_gather --config.generator.remat=all_named
             .352  with tpu_async_gather,tpu_reduce_scatter instead
    """
    config = lite()
    config["data"].update(text=dict(vocabulary=18_048, length=128, records=200_000))
    config["generator"].update(width=4096, layers=48, heads=64)
    config["generator"].update(remat="qkv_attention_middle_mlp")
    config["training"].update(steps=430_000, batch_size=1024, accumulation=2)
    return config


SIZES = {
    "tiny": tiny,
    "small": small,
    "small_plain": small_plain,
    "small_snapped": small_snapped,
    "emoji": emoji,
    "lite": lite,
    "10b": ten_billion,
}
