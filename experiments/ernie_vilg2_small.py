"""ERNIE-ViLG 2.0's diffusion on all of the synthetic scenes, trained in three stages.

    vilg train --config=experiments/ernie_vilg2.py:small --workdir=runs/small2
    vilg evaluate --workdir=runs/small2 --evals=scenes --out=small_diffusion.json

This one command trains the KL codec, then small_snapped, small_plain and small, each of which
starts from the parameters of the stage before it (training.first). What a caption says is learned
first where the pictures hold little else. The denoiser is a DiT of 4 layers, 192 wide, and one
expert. All stages together took 6,501 CPU-seconds, on one core of two: 100 minutes.

stage          scenes                                          scores on its own scenes
small_snapped  plain background, centres on the codec's grid   not scored
small_plain    plain background, objects anywhere              .833 one object, .740 two objects
small          five backgrounds, objects anywhere              .883 one object, .789 two objects

The last line is of the test split, 256 prompts a cell; the one before is of the validation split,
96 prompts a cell (experiments/results/README.md)."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config

PLAIN = dict(backgrounds=("plain",))
CAPTION_NOISE = dict(mean=1.7, std=1.0)  # of log(sigma / alpha): where the caption matters


def get_config(size: str = "small") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def small() -> dict:
    """The third stage: one to three objects anywhere, groups of equal objects, every background."""
    return stage(
        steps=2900,
        scenes={},
        noise=dict(mean=1.2, std=1.3),  # wider, because backgrounds are decided at little noise
        optimizer={},
        training=dict(first=small_plain()),
    )


def small_plain() -> dict:
    """The second stage: objects anywhere on the plain background."""
    return stage(
        steps=800,
        scenes=PLAIN,
        noise=CAPTION_NOISE,
        optimizer=dict(end_ratio=0.3),  # the rate stays high for the next stage
        training=dict(first=small_snapped()),
    )


def small_snapped() -> dict:
    """The first stage: centres lie on the codec's grid, so that there are few places to learn."""
    return stage(
        steps=600,
        scenes=dict(PLAIN, snap=4),
        noise=CAPTION_NOISE,
        optimizer=dict(end_ratio=0.3),
        training={},
    )


def stage(steps: int, scenes: dict, noise: dict, optimizer: dict, training: dict) -> dict:
    """The experiment of one stage; the arguments are all in which the stages differ.

    `noise` is the distribution of training noise; `scenes`, `optimizer` and `training` are fields
    that the stage adds to these sections.
    """
    codec = load_config("tokenizer.py:kl_small", beside=__file__).to_dict()
    codec["data"]["valid"].update(scenes)  # codec and generator share the validation data
    return dict(
        seed=0,
        data=dict(
            train=dict(codec["data"]["train"], weights=(0.2, 0.6, 0.2), **scenes),
            valid=codec["data"]["valid"],
            loader=dict(seed=0),
            text=dict(vocabulary=640, length=40),
        ),
        codec=dict(workdir="", floors=dict(two_objects=0.95), experiment=codec),
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                schedule=dict(name="log_linear", sigma_min=0.02, sigma_max=80.0),
                prediction="x0",
                weighting=dict(name="x0"),
                times=dict(name="lognormal", **noise),
            ),
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
            ),
            text=dict(
                width=192,
                layers=1,
                heads=6,
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
            warmup_steps=30,
            clip=1.0,
            **optimizer,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=steps,
            batch_size=64,
            accumulation=1,
            ema=0.0,
            checkpoint_every=100,
            log_every=20,
            evaluate_every=0,
            sample_every=1000,
            keep_last=2,
            **training,
        ),
        evals=dict(
            losses=dict(batches=4),
            scenes=dict(
                n=256,
                split="test",
                captions=False,
                guidance=2.5,
                sampler="ddim",
                steps=20,
                last=0.28,
            ),
        ),
    )


SIZES = {"small": small, "small_plain": small_plain, "small_snapped": small_snapped}
