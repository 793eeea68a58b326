"""ERNIE-ViLG (arXiv 2112.15283): one transformer for text to image and for image to text.

    vilg train --config=experiments/ernie_vilg.py:tiny --workdir=runs/tiny
    vilg sample --workdir=runs/tiny --prompt='a large red circle' --out=out
    vilg evaluate --workdir=runs/tiny --out=runs/tiny/scores.json

size   layers x width x heads  positions           hardware, time and what to expect
tiny   2 x 64 x 2              24 text + 64 image  70 CPU-seconds with its codec: shows that
                                                   everything runs, too small to draw well
emoji  6 x 192 x 6             32 text + 64 image  23 minutes of 2 cores after 27 of its codec: 5.0
                                                   nats a code on concepts that it never saw

Sizes in files beside this one, which FILE:SIZE of this file finds too: small, with its earlier
stages small_plain and small_snapped (ernie_vilg_small.py), lite and 10b (ernie_vilg_paper.py).

A generator's data.train and data.valid are its codec's own sections (`codec["data"]["train"]`), so
that an override of the one, such as --config.data.train.path=DIR, reaches the other."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config, load_file


def get_config(size: str = "tiny") -> ConfigDict:
    """The experiment of one of SIZES."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def tiny() -> dict:
    """For trying the machinery: it trains from nothing, its codec included."""
    codec = load_config("tokenizer.py:tiny", beside=__file__).to_dict()
    codec["training"]["steps"] = 300
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


def emoji() -> dict:
    """Pictures of emoji at 64 px with their Chinese and English names.

    Run `vilg data prepare emoji --out=runs/data/emoji` first. Which emoji are for training and
    which for validation stands in a table outside this repository, whose path is the field
    data.train.split (see tokenizer.py:emoji).
    """
    codec = load_config("tokenizer.py:emoji", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=dict(
            train=codec["data"]["train"],
            valid=codec["data"]["valid"],
            loader=dict(seed=0),
            text=dict(vocabulary=4096, length=32, records=20_000),
        ),
        codec=dict(workdir="", floors=dict(codebook_usage=0.3), experiment=codec),
        generator=dict(
            name="autoregressive",
            width=192,
            layers=6,
            heads=6,
            patterns="dense",
            attention="blockwise",
            scan=False,
            remat="none",
            dtype="float32",
            code_embedding="table",
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
            learning_rate=0.008,
            adam_ratio=1.0,
            schedule="linear",
            decay_share=0.3,
            warmup_steps=50,
            clip=1.0,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=1800,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=200,
            log_every=20,
            evaluate_every=0,
            sample_every=600,
            keep_last=2,
        ),
        evals=dict(
            losses=dict(batches=8), twins=dict(n=128, choices=16, guidance=1.4, temperature=0.8)
        ),
    )


SIZES = {
    "tiny": tiny,
    **load_file("ernie_vilg_small.py", beside=__file__).SIZES,
    "emoji": emoji,
    **load_file("ernie_vilg_paper.py", beside=__file__).SIZES,
}
