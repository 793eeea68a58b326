"""Image codecs: VQ tokenizers (ERNIE-ViLG 1.0, section 3.1.1; VQGAN, arXiv 2012.09841), KL
autoencoders (LDM, arXiv 2112.10752).

    vilg train --config=experiments/tokenizer.py:tiny --workdir=runs/tokenizer_tiny

size      pixels  codes         architecture      hardware, time, what to expect
tiny      32      8x8 of 1024   patch-local       see experiments/results/README.md
small     32      8x8 of 4096   patch-local       9.4 minutes of two idle cores: 31.6 dB, .89 of two-object scenes read right
emoji     64      8x8 of 2048   patch, context    34 CPU-minutes: 22.9 dB, .92 of the codes in use
kl_tiny   32      8x8 x 8       patch-local       37 CPU-seconds: 40.6 dB, all two-object scenes read right; latents of deviation 5.2
kl_small  32      8x8 x 16      patch-local       165 CPU-seconds: 37.9 dB, .99 of two-object scenes read right
kl_emoji  64      16x16 x 8     patch, context    not run
f8_8192   256     32x32 of 8192 taming VQGAN      not run (68,995,971 parameters; Gumbel; needs coco_captions prepared by tfds)
kl_f8     256     32x32 x 4     LDM kl-f8         not run (83,653,863 parameters; needs coco_captions prepared by tfds)
"""

from ml_collections import ConfigDict

from vilg.config import lookup


def get_config(size: str = "tiny") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def tiny() -> dict:
    """One or two objects snapped to the 4-pixel patches, plain background: equal patches, equal
    codes.
    """
    scenes = dict(
        name="synthetic", image_size=32, max_objects=2, groups=0.0, snap=4, backgrounds=("plain",)
    )
    return dict(
        seed=0,
        data=dict(
            train=dict(scenes, split="train"),
            valid=dict(scenes, split="valid"),
            loader=dict(seed=0),
        ),
        codec=dict(
            name="vq",
            workdir="",  # another tokenizer's run to start from
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
            bank=16384,
        ),
        generator=dict(),
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
    """One to three objects anywhere, every background, counts: no two edges are alike, so there are
    four times as many codes, and the decoder puts them together looking at their neighbours."""
    scenes = dict(name="synthetic", image_size=32, max_objects=3, groups=0.25, snap=0)
    config = tiny()
    config.update(
        data=dict(
            train=dict(scenes, split="train"),
            valid=dict(scenes, split="valid"),
            loader=dict(seed=0),
        ),
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
    )
    config["codec"].update(
        vocabulary=4096,
        bank=32768,
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
    )
    return config


def emoji() -> dict:
    """Emoji of four styles at 64 px; only rows that the table marks train. Codes see their
    surroundings: 8-pixel patches of real pictures are never alike."""
    table = "../shared/data/emoji_bilingual.train_valid.tsv"
    source = dict(name="emoji", path="runs/data/emoji", split=table)
    config = tiny()
    config.update(
        data=dict(
            train=dict(source, use="train"), valid=dict(source, use="valid"), loader=dict(seed=0)
        ),
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
    )
    config["codec"].update(
        image_size=64,
        vocabulary=2048,
        bank=32768,
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
    )
    return config


def kl_tiny() -> dict:
    """The scenes of `tiny`, as 8x8 latents of 8 channels with a Gaussian posterior (LDM's KL
    autoencoder): what diffusion works on.
    """
    config = tiny()
    config["codec"] = dict(
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
    )
    return config


def kl_small() -> dict:
    """The scenes of `small`, as 8x8 latents of 16 channels."""
    config = small()
    config["codec"] = dict(
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
    )
    config["training"].update(steps=800, sample_every=0)
    return config


def kl_emoji() -> dict:
    """The emoji of `emoji`, as 16x16 latents of 8 channels (six numbers become one)."""
    config = emoji()
    config["codec"] = dict(
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
    )
    config["training"].update(steps=800, sample_every=0)
    return config


def kl_f8() -> dict:
    """LDM's kl-f8 (CompVis/latent-diffusion, models/first_stage_models/kl-f8/config.yaml;
    PAPERS 1.2): 256 px -> 32x32 of 4 channels, no attention but in the middle. LDM's 12 rows a
    device in each of 2 microbatches and rate of 4.5e-6 a row, on 8 devices (its number is not
    published); its data were OpenImages."""
    config = f8_8192()
    config["optimizer"].update(learning_rate=4.5e-6 * 192)
    config["training"].update(batch_size=192, accumulation=2)
    config["codec"] = dict(
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
        discriminator=dict(
            weight=0.5, start=50_001, limit=1e4 / (256 * 256 * 3)
        ),  # LDM's limit is on sums, vilg's on means
        l1=1.0,
        # give LPIPS-VGG weights; without them the term is left out, and the run says so
        perceptual="",
    )
    return config


def f8_8192() -> dict:
    """The paper's: f = 8, 8192 codes, 256 px, Gumbel quantizer (vqgan_gumbel_f8; PAPERS 3.1 to
    PAPERS 3.4). Its GAN settings are unknown; these are taming's custom config."""
    source = dict(name="tfds", dataset="coco_captions", text="captions/text", language="en")
    return dict(
        seed=0,
        data=dict(
            train=dict(source, split="train"),
            valid=dict(source, split="val"),
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
            # give LPIPS-VGG weights; without them the term is left out, and the run says so
            perceptual="",
        ),
        generator=dict(),
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


SIZES = {
    "tiny": tiny,
    "small": small,
    "emoji": emoji,
    "kl_tiny": kl_tiny,
    "kl_small": kl_small,
    "kl_emoji": kl_emoji,
    "f8_8192": f8_8192,
    "kl_f8": kl_f8,
}
