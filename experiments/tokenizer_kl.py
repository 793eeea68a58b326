"""KL autoencoders, whose continuous latents diffusion works on (LDM, arXiv 2112.10752).

    vilg train --config=experiments/tokenizer.py:kl_tiny --workdir=runs/kl_tiny

size      pixels  latents    architecture    hardware, time and what to expect
kl_tiny   32      8x8 x 8    patch-local     37 CPU-seconds: 40.6 dB, all two-object scenes read
                                             right; the latents have a standard deviation of 5.2
kl_small  32      8x8 x 16   patch-local     165 CPU-seconds: 37.9 dB, .99 of two-object scenes read
                                             right
kl_emoji  64      16x16 x 8  patch, context  about 600 CPU-seconds of one busy core: 33.2 dB

Latents are rows x columns x channels; tokenizer.py explains the other columns."""

from ml_collections import ConfigDict

from vilg.config import lookup

SNAPPED_SCENES = dict(  # object centres lie on the grid of 4-pixel patches
    name="synthetic", image_size=32, max_objects=2, groups=0.0, snap=4, backgrounds=("plain",)
)
SCENES = dict(name="synthetic", image_size=32, max_objects=3, groups=0.25, snap=0)
EMOJI = dict(
    name="emoji",
    path="runs/data/emoji",
    split="../shared/data/emoji_bilingual.train_valid.tsv",  # columns `id` and `split`
)


def get_config(size: str = "kl_tiny") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def kl_tiny() -> dict:
    """The scenes of tokenizer.py:tiny as 8x8 latents of 8 channels with a Gaussian posterior."""
    return dict(
        seed=0,
        data=dict(
            train=dict(SNAPPED_SCENES, split="train"),
            valid=dict(SNAPPED_SCENES, split="valid"),
            loader=dict(seed=0),
        ),
        codec=dict(
            name="kl",
            workdir="",
            image_size=32,
            latent_channels=8,
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
            kl_weight=1e-6,
            l1=1.0,
            l2=0.0,
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


def kl_small() -> dict:
    """The scenes of tokenizer.py:small as 8x8 latents of 16 channels."""
    return dict(
        seed=0,
        data=dict(
            train=dict(SCENES, split="train"),
            valid=dict(SCENES, split="valid"),
            loader=dict(seed=0),
        ),
        codec=dict(
            name="kl",
            workdir="",
            image_size=32,
            latent_channels=16,
            architecture=dict(
                name="patch",
                patch=4,
                width=192,
                depth=2,
                encoder_context=0,
                context=1,
                channels=16,
                refinements=1,
            ),
            kl_weight=1e-6,
            l1=1.0,
            l2=0.0,
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
            steps=800,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=250,
            log_every=50,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(reconstruction=dict(images=512)),
    )


def kl_emoji() -> dict:
    """The emoji of tokenizer.py:emoji as 16x16 latents of 8 channels: six numbers become one."""
    return dict(
        seed=0,
        data=dict(
            train=dict(EMOJI, use="train"),
            valid=dict(EMOJI, use="valid"),
            loader=dict(seed=0),
        ),
        codec=dict(
            name="kl",
            workdir="",
            image_size=64,
            latent_channels=8,
            architecture=dict(
                name="patch",
                patch=4,
                width=128,
                depth=2,
                encoder_context=1,
                context=2,
                channels=16,
                refinements=1,
            ),
            kl_weight=1e-6,
            l1=1.0,
            l2=0.0,
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
            steps=800,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=100,
            log_every=50,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(reconstruction=dict(images=512)),
    )


SIZES = {"kl_tiny": kl_tiny, "kl_small": kl_small, "kl_emoji": kl_emoji}
