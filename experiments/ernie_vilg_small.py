"""ERNIE-ViLG's transformer on all of the synthetic scenes, trained in three stages.

    vilg train --config=experiments/ernie_vilg.py:small --workdir=runs/small
    vilg evaluate --workdir=runs/small --evals=scenes --out=small.json

This one command trains the codec, then small_snapped, small_plain and small, each of which starts
from the parameters of the stage before it (training.first). What a caption says is learned first
where the pictures hold little else. All stages together took 55 minutes and 6,211 CPU-seconds on 2
idle cores: the codec 9.4 minutes, small_snapped 4.6, small_plain 9.0, small 29.2.

stage          scenes                                            scores on its own scenes
small_snapped  plain background, centres on the codec's grid     .844 one object, .281 two objects
small_plain    plain background, objects anywhere                .948 one object, .729 two objects
small          five backgrounds, objects anywhere                .941 one object, .680 two objects;
                                                                 captions .992 and .652

The last line is of the test split, 256 prompts a cell; the two before are of the validation split,
96 prompts a cell (experiments/results/README.md)."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config

PLAIN = dict(backgrounds=("plain",))


def get_config(size: str = "small") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def small() -> dict:
    """The third stage: one to three objects anywhere, groups of equal objects, every background."""
    return stage(
        steps=4000,
        floors=dict(codebook_usage=0.5, two_objects=0.85),
        scenes={},
        optimizer={},
        training=dict(first=small_plain()),
    )


def small_plain() -> dict:
    """The second stage: objects anywhere on the plain background.

    The codes of the plain background hide nothing of the objects.
    """
    return stage(
        steps=1200,
        floors=dict(codebook_usage=0.2, two_objects=0.8),  # most codes are backgrounds'
        scenes=PLAIN,
        optimizer=dict(end_ratio=0.3),  # the rate stays high for the next stage
        training=dict(first=small_snapped()),
    )


def small_snapped() -> dict:
    """The first stage: centres lie on the codec's grid, so that there are few codes to learn."""
    return stage(
        steps=600,
        floors=dict(codebook_usage=0.05, two_objects=0.8),
        scenes=dict(PLAIN, snap=4),
        optimizer=dict(end_ratio=0.3),
        training={},
    )


def stage(steps: int, floors: dict, scenes: dict, optimizer: dict, training: dict) -> dict:
    """The experiment of one stage; the arguments are all in which the stages differ.

    `scenes`, `optimizer` and `training` are fields that the stage adds to these sections.
    """
    codec = load_config("tokenizer.py:small", beside=__file__).to_dict()
    codec["data"]["valid"].update(scenes)  # codec and generator share the validation data
    return dict(
        seed=0,
        data=dict(
            train=dict(codec["data"]["train"], weights=(0.2, 0.6, 0.2), **scenes),
            valid=codec["data"]["valid"],
            loader=dict(seed=0),
            text=dict(vocabulary=640, length=40),
        ),
        codec=dict(workdir="", floors=floors, experiment=codec),
        generator=dict(
            name="autoregressive",
            width=192,
            layers=4,
            heads=6,
            patterns="dense",
            attention="blockwise",
            scan=False,
            remat="none",
            dtype="float32",
            code_embedding="codec",
            qk_norm=True,
            rotary_base=100.0,
            embed_scale=0.5,
            image_to_text_weight=0.3,
            caption_every=2,
            drop_text=0.1,
            text_window=4,
            image_window=1,
        ),
        optimizer=dict(
            kind="muon",
            learning_rate=0.012,
            adam_ratio=1.0,
            schedule="linear",
            decay_share=0.3,
            warmup_steps=50,
            clip=1.0,
            **optimizer,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=steps,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=200,
            log_every=20,
            evaluate_every=0,
            sample_every=1000,
            keep_last=2,
            **training,
        ),
        evals=dict(
            losses=dict(batches=4),
            scenes=dict(n=256, split="test", guidance=1.7, temperature=0.9, top_p=0.95),
        ),
    )


SIZES = {"small": small, "small_plain": small_plain, "small_snapped": small_snapped}
