"""VQ tokenizers (ERNIE-ViLG, arXiv 2112.15283, section 3.1.1; VQGAN, arXiv 2012.09841).

    vilg train --config=experiments/tokenizer.py:tiny --workdir=runs/tokenizer_tiny

A tokenizer is trained on pictures alone, before the generator that uses it, and frozen then.

size   pixels  codes        architecture    hardware, time and what to expect
tiny   32      8x8 of 1024  patch-local     51 CPU-seconds on 2 cores: 42.3 dB, .891 of the codes in
                                            use, all two-object scenes read right
small  32      8x8 of 4096  patch-local     9.4 minutes of 2 idle cores: 31.6 dB, .856 of the codes
                                            in use, .891 of two-object scenes read right
emoji  64      8x8 of 2048  patch, context  34 CPU-minutes on 2 busy cores: 22.9 dB, .917 of the
                                            codes in use

A "patch-local" code depends on the pixels of its own patch only; with "context" the encoder also
sees the neighbouring patches. "Read right" is the share of reconstructed scenes in which the scorer
of the synthetic scenes finds every object, colour and place (experiments/results/README.md).

Sizes in files beside this one, which FILE:SIZE of this file finds too: kl_tiny, kl_small and
kl_emoji (tokenizer_kl.py), f8_8192 and kl_f8 (tokenizer_256px.py)."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_file

SNAPPED_SCENES = dict(  # object centres lie on the grid of 4-pixel patches
    name="synthetic", image_size=32, max_objects=2, groups=0.0, snap=4, backgrounds=("plain",)
)
SCENES = dict(name="synthetic", image_size=32, max_objects=3, groups=0.25, snap=0)
EMOJI = dict(
    name="emoji",
    path="runs/data/emoji",
    split="../shared/data/emoji_bilingual.train_valid.tsv",  # columns `id` and `split`
)


def get_config(size: str = "tiny") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def tiny() -> dict:
    """One or two objects on a plain background, snapped to the 4-pixel patches.

    Equal patches then have equal codes, which is what makes the scenes easy to learn.
    """
    return dict(
        seed=0,
        data=dict(
            train=dict(SNAPPED_SCENES, split="train"),
            valid=dict(SNAPPED_SCENES, split="valid"),
            loader=dict(seed=0),
        ),
        codec=dict(
            name="vq",
            workdir="",  # the workdir of another tokenizer to start from
            image_size=32,
            vocabulary=1024,
            code_width=16,
            architecture=dict(
                name="patch",
                patch=4,
                width=128,
                depth=1,
                context=0,
                channels=16,
                refinements=0,
                output_size=1,
            ),
            quantizer=dict(name="nearest", beta=0.25),
            l1=1.0,
            l2=0.0,
            autoencoder_warmup=150,
            revive_after=50,
            bank=16_384,
        ),
        generator={},
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            schedule="trapezoid",
            decay_share=0.5,
            warmup_steps=20,
            clip=0.0,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=500,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=250,
            log_every=20,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(reconstruction=dict(images=512)),
    )


def small() -> dict:
    """One to three objects anywhere, groups of equal objects, every background.

    No two edges are alike, so there are four times as many codes as in `tiny`, and the decoder
    looks at the neighbours of each code (`context`).
    """
    return dict(
        seed=0,
        data=dict(
            train=dict(SCENES, split="train"),
            valid=dict(SCENES, split="valid"),
            loader=dict(seed=0),
        ),
        codec=dict(
            name="vq",
            workdir="",
            image_size=32,
            vocabulary=4096,
            code_width=16,
            architecture=dict(
                name="patch",
                patch=4,
                width=192,
                depth=3,
                encoder_context=0,
                context=2,
                channels=16,
                refinements=1,
            ),
            quantizer=dict(name="nearest", beta=0.25),
            l1=1.0,
            l2=0.0,
            autoencoder_warmup=150,
            revive_after=50,
            bank=32_768,
        ),
        generator={},
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            schedule="trapezoid",
            decay_share=0.5,
            warmup_steps=20,
            clip=0.0,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=4000,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=250,
            log_every=50,
            evaluate_every=0,
            sample_every=1000,
        ),
        evals=dict(reconstruction=dict(images=512)),
    )


def emoji() -> dict:
    """Emoji of four styles at 64 px, from `vilg data prepare emoji --out=runs/data/emoji`.

    A table outside this repository (data.*.split, a .tsv of ids and splits) says which emoji are
    for training and which for validation. Codes see their surroundings, because 8-pixel patches of
    real pictures are never alike.
    """
    return dict(
        seed=0,
        data=dict(
            train=dict(EMOJI, use="train"),
            valid=dict(EMOJI, use="valid"),
            loader=dict(seed=0),
        ),
        codec=dict(
            name="vq",
            workdir="",
            image_size=64,
            vocabulary=2048,
            code_width=16,
            architecture=dict(
                name="patch",
                patch=8,
                width=256,
                depth=2,
                encoder_context=2,
                context=3,
                channels=24,
                refinements=1,
            ),
            quantizer=dict(name="nearest", beta=0.25),
            l1=1.0,
            l2=0.0,
            autoencoder_warmup=150,
            revive_after=50,
            bank=32_768,
        ),
        generator={},
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            schedule="trapezoid",
            decay_share=0.5,
            warmup_steps=20,
            clip=0.0,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=2500,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=100,
            log_every=50,
            evaluate_every=0,
            sample_every=500,
        ),
        evals=dict(reconstruction=dict(images=512)),
    )


SIZES = {
    "tiny": tiny,
    "small": small,
    "emoji": emoji,
    **load_file("tokenizer_kl.py", beside=__file__).SIZES,
    **load_file("tokenizer_256px.py", beside=__file__).SIZES,
}
