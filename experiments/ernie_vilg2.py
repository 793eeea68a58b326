"""ERNIE-ViLG 2.0: knowledge-enhanced latent diffusion with a mixture of denoising experts (arXiv
2210.15257).

    vilg train --config=experiments/ernie_vilg2.py:tiny --workdir=runs/tiny2
    vilg sample --workdir=runs/tiny2 --prompt='a large red circle' --out=out --guidance=2.5 --sampler=dpmpp_2m --steps=20
    vilg evaluate --workdir=runs/tiny2 --out=runs/tiny2/scores.json

size          parameters        hardware, time, what to expect
tiny          U-Net             146 CPU-seconds, codec included; for trying the machinery, too small to draw well
tiny_experts  2 experts         after tiny (training.first), which they start from as copies; not run to the end
small         DiT 4 x 192       all of `synthetic`, unsnapped; 6,501 CPU-seconds from nothing; test: .883 one object, .789 two (results/README.md)
emoji         DiT 4 x 192       real bilingual emoji at 64 px; `vilg data prepare emoji --out=runs/data/emoji` first; 2,950 CPU-s with its codec;
                                unseen concepts: the own caption best of 16 in .26 (zh), .42 (en),
                                chance .06 (results/README.md)
ablation      874 M + 500 M     the paper's ablation model; not run
paper_dense   2.2 B + 1.3 B     the paper's stage 1: one expert; not run
paper         10 x 2.2 B + 1.3 B  the paper's stage 2, which starts from stage 1; not run

Of the paper's sizes the learning rate, batch, steps and drop-out are known only in part
(vilg/PAPERS.md, section 1): what is unknown is a field here."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config


def get_config(size: str = "tiny") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def tokenizer(size: str) -> dict:
    """A codec's whole experiment."""
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
            name="diffusion",
            process=dict(
                name="gaussian",
                schedule=dict(name="log_linear", sigma_min=0.02, sigma_max=80.0),
                prediction="x0",
                weighting=dict(name="x0"),
                times=dict(
                    name="lognormal", mean=1.7, std=1.0
                ),  # where the caption matters on these scenes
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
    """Two experts after `tiny`: copies of it, each trained on its half of time (the text encoder
    stays as it is).
    """
    config = tiny()
    config["generator"]["experts"].update(n=2)
    config["layout"].update(name="expert")
    config["training"].update(steps=60, first=tiny())
    return config


def small_alone(steps: int) -> dict:
    """All of `synthetic`, from nothing: up to three objects anywhere, counts, every background, on
    latents of a KL codec.
    """
    config, codec = tiny(), tokenizer("kl_small")
    train = dict(codec["data"]["train"], weights=(0.2, 0.6, 0.2))
    config["data"].update(
        train=train, valid=codec["data"]["valid"], text=dict(vocabulary=640, length=40)
    )
    config["codec"].update(experiment=codec, floors=dict(two_objects=0.95))
    config["generator"]["process"]["times"].update(
        mean=1.2, std=1.3
    )  # wider: backgrounds are decided late
    config["generator"].update(
        denoiser=dict(
            name="dit",
            width=192,
            layers=4,
            heads=6,
            mlp_ratio=4.0,
            patch=1,
            zero_gates=False,
            rotary_base=100.0,
            qk_norm=True,
            embed_scale=0.5,
            scan=False,
            remat="none",
            dtype="float32",
        )
    )
    config["generator"]["text"].update(width=192, layers=1, heads=6)
    config["optimizer"].update(warmup_steps=30)
    config["training"].update(
        steps=steps,
        batch_size=64,
        ema=0.0,
        checkpoint_every=100,
        keep_last=2,
        log_every=20,
        sample_every=1000,
    )
    config["evals"] = dict(
        losses=dict(batches=4),
        scenes=dict(
            n=256, split="test", captions=False, guidance=2.5, sampler="ddim", steps=20, last=0.28
        ),
    )
    return config


def small() -> dict:
    """All of `synthetic`, after small_plain, after small_snapped: what is said is learned where
    little else is to be learned.
    """
    config = small_alone(2900)
    config["training"].update(first=small_plain())
    return config


def small_plain() -> dict:
    """The second part of `small`: objects anywhere on the plain background."""
    config = easier(small_alone(800), dict(backgrounds=("plain",)))
    config["training"].update(first=small_snapped())
    return config


def small_snapped() -> dict:
    """The first part of `small`: centres on the codec's grid too, so that few places are to be told
    apart.
    """
    return easier(small_alone(600), dict(backgrounds=("plain",), snap=4))


def easier(config: dict, scenes: dict) -> dict:
    """The config on some of the scenes, its learning rate left high for what comes after, its noise
    where the captions act.
    """
    for part in ("train", "valid"):
        config["data"][part].update(scenes)
    config["generator"]["process"]["times"].update(mean=1.7, std=1.0)
    config["optimizer"].update(end_ratio=0.3)
    return config


def emoji() -> dict:
    """Real bilingual data, and the table of splits beside the clone (codec.experiment.data.*.split
    in tokenizer.py).
    """
    config, codec = small_alone(1300), tokenizer("kl_emoji")
    config["data"].update(
        train=codec["data"]["train"],
        valid=codec["data"]["valid"],
        text=dict(vocabulary=4096, length=32, records=20_000),
    )
    config["codec"].update(experiment=codec, floors={})
    config["generator"]["denoiser"].update(patch=2)  # 64 patches, as in `small`
    config["generator"]["text"].update(window=0)
    config["training"].update(ema=0.999)
    config["evals"] = dict(
        losses=dict(batches=8),
        twins=dict(n=128, choices=16, guidance=2.5, sampler="ddim", steps=30, last=0.28),
        caption_gap=dict(records=512),
    )
    return config


def ablation() -> dict:
    """The model of the paper's ablations: U-Net of 874 M, text encoder of 500 M, on 256 px (32x32
    latents).

    The best found for pods, XLA-estimated likely MFU of a program compiled quickly
    (--flags=tpu_quick_compile; results/README.md): v5p-128 fsdp .119, v4-128 zero2 .155, v5e-256
    group_sharded:shard=64 .072, v6e-256 group_sharded:shard=64 .033."""
    codec = tokenizer("kl_f8")
    config = tiny()
    config["data"].update(
        train=codec["data"]["train"],
        valid=codec["data"]["valid"],
        loader=dict(seed=0, random_crop=True),
        text=dict(vocabulary=21_128, length=77, records=200_000),
        knowledge=dict(tags=0.5, attention=0.5, regions=0.5, completion=0.5, replacement=0.1),
    )
    config["codec"].update(experiment=codec, floors={})
    config["generator"].update(
        process=dict(
            name="gaussian",
            schedule=dict(name="ldm_linear"),  # the paper: "linear", as LDM (PAPERS 1.5)
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
        knowledge=dict(
            attention_weight=0.01, attention_mode="prob", region_weight=0.1, region_power=1.0
        ),
    )
    config["optimizer"] = dict(
        kind="adamw",
        learning_rate=9e-5,
        schedule="constant",
        warmup_steps=10_000,
        clip=1.0,
        b1=0.9,
        b2=0.999,
        weight_decay=0.01,
    )
    config["layout"].update(name="fsdp")
    config["training"].update(
        steps=100_000,
        batch_size=2048,
        ema=0.9999,
        checkpoint_every=2000,
        log_every=100,
        sample_every=10_000,
    )
    config["evals"] = dict(losses=dict(batches=16), caption_gap=dict(records=512))
    return config


def paper_dense() -> dict:
    """Stage 1: one U-Net of 2.24 B and the text encoder of 1.25 B."""
    config = ablation()
    config["generator"]["denoiser"].update(channels=512)
    config["generator"]["text"].update(width=2048, heads=32)
    config["training"].update(steps=350_000)
    return config


def paper() -> dict:
    """Stage 2: ten experts from stage 1, each on a tenth of time; with `generator.experts.only=k`
    one of them a job.

    On v5p-128 under `expert` an evaluation for 2,560 pictures is XLA-estimated at .527 of peak, 1.5 GiB a chip. Train step, likely MFU of a program
    compiled quickly (--flags=tpu_quick_compile; results/README.md):
    one job per expert               v5p-128 .155, v4-128 .212 (fsdp), v5e-256 .113, v6e-256 .063 (group_sharded:shard=64; v6e: with tpu_large_stack)
    all in one program, expert       v5p-128 .055, v4-128 .050 (training.accumulation=2), v5e-256 .043, v6e-256 .019
    """
    config = paper_dense()
    config["generator"]["experts"].update(n=10)
    config["layout"].update(name="expert")
    config["training"].update(steps=90_000, batch_size=2560, first=paper_dense())
    return config


SIZES = {
    "tiny": tiny,
    "tiny_experts": tiny_experts,
    "small": small,
    "small_plain": small_plain,
    "small_snapped": small_snapped,
    "emoji": emoji,
    "ablation": ablation,
    "paper_dense": paper_dense,
    "paper": paper,
}
