"""Denoising experts at tiny size: 1, 2, 5 and 10, all copies of the same dense run at first.

    vilg sweep --config=experiments/ablations/experts.py --out=runs/ablations/experts

ERNIE-ViLG 2.0 (arXiv 2210.15257) gives k experts k times the samples. So in the first table each
expert sees 16 rows a step, and in the second all experts together see 80. A cell is called
experts_N_ROWS after its number of experts and the rows of a batch. Its control is dense_ROWS: the
dense run trained on for as long, on as many rows, which differs in experts.n only.

Noise is drawn uniformly, over as much of it as the quickstart's sampler walks, so that equal slices
of time are equal shares of the training. The text encoder goes on learning in every cell except
experts_5_80_frozen_text.

A run takes 72 to 200 CPU-seconds on a busy core, more with more rows. Run with 1, 2 and 5 experts,
three seeds: two experts lower the validation loss by .010 (95 % interval .003 to .017), five do
not, and no score differs from its control's (experiments/results/experts.json)."""

from typing import Any

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config

METRICS = {
    "scenes/single_object": "one object",
    "scenes/two_objects": "two objects",
    "losses/loss": "loss",
    "caption_gap/largest": "caption gap",
}


def get_config(size: str = "tiny") -> ConfigDict:
    """The experiment that the cells change."""
    return ConfigDict(lookup(SIZES, size, "config size")())


def tiny() -> dict:
    """The dense run: a DiT of 4 layers, 96 wide, on the quickstart's data and codec."""
    quickstart = load_config("../quickstart.py", beside=__file__).to_dict()
    return dict(
        seed=0,
        data=quickstart["data"],
        codec=quickstart["codec"],
        generator=dict(
            name="diffusion",
            process=dict(
                name="gaussian",
                schedule=dict(name="log_linear", sigma_min=0.4, sigma_max=80.0),
                prediction="x0",
                weighting=dict(name="x0"),
                times=dict(name="uniform"),
            ),
            denoiser=dict(
                name="dit",
                width=96,
                layers=4,
                heads=4,
                zero_gates=False,
                rotary_base=100.0,
                qk_norm=True,
                embed_scale=0.5,
                scan=False,
            ),
            text=dict(
                width=96, layers=1, heads=4, window=4, embed_scale=0.5, qk_norm=True, scan=False
            ),
            experts=dict(n=1, train_text=True),
            drop_text=0.1,
        ),
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            adam_ratio=0.3,
            schedule="linear",
            warmup_steps=30,
            end_ratio=0.3,
            clip=1.0,
        ),
        layout=dict(name="dp"),
        training=dict(
            steps=600,
            batch_size=32,
            accumulation=1,
            ema=0.0,
            checkpoint_every=600,
            log_every=20,
            evaluate_every=0,
            sample_every=0,
        ),
        evals=dict(
            scenes=dict(n=64, split="valid", captions=False, guidance=2.0, steps=20, last=0.0),
            losses=dict(batches=8, batch_size=80),
        ),
    )


SIZES = {"tiny": tiny}


def continued(experts: int, rows: int) -> dict[str, Any]:
    """Overrides: this many experts go on from the dense run, with this many rows a batch."""
    return {
        "training.start_from": "dense",
        "training.steps": 120,
        "training.checkpoint_every": 120,
        "training.batch_size": rows,
        "optimizer.learning_rate": 0.003,  # where the dense run ended
        "optimizer.end_ratio": 0.0,
        "generator.experts.n": experts,
    }


CELLS: dict[str, dict[str, Any]] = {
    "dense": {},
    "dense_16": continued(experts=1, rows=16),
    "dense_32": continued(experts=1, rows=32),
    "dense_80": continued(experts=1, rows=80),
    "dense_160": continued(experts=1, rows=160),
    "experts_2_32": continued(experts=2, rows=32),
    "experts_2_80": continued(experts=2, rows=80),
    "experts_5_80": continued(experts=5, rows=80),
    "experts_10_80": continued(experts=10, rows=80),
    "experts_10_160": continued(experts=10, rows=160),
    "experts_5_80_frozen_text": {
        **continued(experts=5, rows=80),
        "generator.experts.train_text": False,
    },
}
CONTROLS = {
    "experts_2_32": "dense_32",
    "experts_2_80": "dense_80",
    "experts_5_80": "dense_80",
    "experts_10_80": "dense_80",
    "experts_10_160": "dense_160",
    "experts_5_80_frozen_text": "dense_80",
}
TABLES = {
    "equal samples per expert: 16 rows each": [
        "dense",
        "dense_16",
        "dense_32",
        "experts_2_32",
        "dense_80",
        "experts_5_80",
        "dense_160",
        "experts_10_160",
    ],
    "equal total samples: 80 rows": [
        "dense",
        "dense_80",
        "experts_2_80",
        "experts_5_80",
        "experts_10_80",
        "experts_5_80_frozen_text",
    ],
}
