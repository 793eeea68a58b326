"""Codecs of 256 px in the sizes that papers published: taming's VQGAN and LDM's kl-f8.

    vilg train --config=experiments/tokenizer.py:f8_8192 --workdir=runs/f8_8192

size     latents          parameters  hardware, time and what to expect
f8_8192  32x32 of 8,192   68,995,971  not run
kl_f8    32x32 x 4        83,653,863  not run

The parameters are those of encoder, decoder and codes, without the discriminator. Both sizes need
coco_captions, prepared by tfds."""

from ml_collections import ConfigDict

from vilg.config import lookup

COCO = dict(name="tfds", dataset="coco_captions", text="captions/text", language="en")


def get_config(size: str = "f8_8192") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def f8_8192() -> dict:
    """The tokenizer of ERNIE-ViLG: taming's vqgan_gumbel_f8 (PAPERS 3.1 to PAPERS 3.4).

    256 px become 32x32 ids of 8,192 codes by a Gumbel quantizer. The paper does not say how its GAN
    was trained; the discriminator and optimizer are those of taming's custom configuration.
    """
    return dict(
        seed=0,
        data=dict(
            train=dict(COCO, split="train"),
            valid=dict(COCO, split="val"),
            loader=dict(seed=0, random_crop=True),
        ),
        codec=dict(
            name="vq",
            workdir="",
            image_size=256,
            vocabulary=8192,
            code_width=256,
            architecture=dict(name="convolutional"),
            quantizer=dict(name="gumbel"),
            discriminator=dict(weight=0.8, start=10_000),
            l1=1.0,
            perceptual="",  # LPIPS-VGG weights; without them the run says that the term is left out
        ),
        generator={},
        optimizer=dict(
            kind="adamw",
            learning_rate=4.5e-6 * 96,
            schedule="constant",
            warmup_steps=0,
            b1=0.5,
            b2=0.9,
            clip=0.0,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=1_000_000,
            batch_size=96,
            accumulation=1,
            ema=0.0,
            checkpoint_every=5000,
            log_every=100,
            evaluate_every=0,
            sample_every=5000,
        ),
        evals=dict(reconstruction=dict(images=512)),
    )


def kl_f8() -> dict:
    """LDM's kl-f8: 256 px become 32x32 latents of 4 channels (PAPERS 1.2).

    The values are those of CompVis/latent-diffusion, models/first_stage_models/kl-f8/config.yaml:
    attention in the middle only, 12 rows a device in each of 2 microbatches, a learning rate of
    4.5e-6 a row. How many devices LDM used is not published; 8 are assumed. LDM trained on
    OpenImages.
    """
    return dict(
        seed=0,
        data=dict(
            train=dict(COCO, split="train"),
            valid=dict(COCO, split="val"),
            loader=dict(seed=0, random_crop=True),
        ),
        codec=dict(
            name="kl",
            workdir="",
            image_size=256,
            latent_channels=4,
            architecture=dict(
                name="convolutional",
                channels=128,
                multipliers=(1, 2, 4, 4),
                blocks=2,
                attention_at=(),
                latent_channels=4,
            ),
            kl_weight=1e-6,
            # LDM limits the adaptive weight on sums over pixels; vilg's losses are means
            discriminator=dict(weight=0.5, start=50_001, limit=1e4 / (256 * 256 * 3)),
            l1=1.0,
            perceptual="",  # LPIPS-VGG weights; without them the run says that the term is left out
        ),
        generator={},
        optimizer=dict(
            kind="adamw",
            learning_rate=4.5e-6 * 192,
            schedule="constant",
            warmup_steps=0,
            b1=0.5,
            b2=0.9,
            clip=0.0,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=1_000_000,
            batch_size=192,
            accumulation=2,
            ema=0.0,
            checkpoint_every=5000,
            log_every=100,
            evaluate_every=0,
            sample_every=5000,
        ),
        evals=dict(reconstruction=dict(images=512)),
    )


SIZES = {"f8_8192": f8_8192, "kl_f8": kl_f8}
