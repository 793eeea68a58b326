"""Denoising experts at tiny size: 1, 2, 5 and 10, all grown from the same dense run.

    vilg sweep --config=experiments/ablations/experts.py --out=runs/ablations/experts

ERNIE-ViLG 2.0 gives k experts k times the samples; so in the first table each expert sees 16 rows a
step, and in the second all of them together see 80. The control of every cell is the dense run
trained on for as long, on as many rows: it differs in nothing but experts.n. Noise is drawn
uniformly, over as much of it as the quickstart's sampler walks, so that equal slices of time are
equal shares of the training; the text encoder goes on learning everywhere, but in
`experts_5_80_frozen_text`. CPU-seconds grow with the rows: the cells with 160 are the dearest. Run
with 1, 2 and 5 experts: experiments/results/experts.json."""

from typing import Any

from ml_collections import ConfigDict

from vilg.experiment_file import load_config

SIZES = ("tiny",)
METRICS = {
    "scenes/single_object": "one object",
    "scenes/two_objects": "two objects",
    "losses/loss": "loss",
    "caption_gap/largest": "caption gap",
}
EACH, TOTAL = 16, 80  # rows of a batch: for each expert, for all
NUMBERS = (1, 2, 5, 10)


def get_config(size: str = "tiny") -> ConfigDict:
    """What the cells share; without overrides the dense run that they start from."""
    config = load_config(f"noise.py:{size}", beside=__file__).to_dict()
    config["generator"]["process"].update(
        schedule=dict(name="log_linear", sigma_min=0.4, sigma_max=80.0), times=dict(name="uniform")
    )
    config["generator"]["experts"].update(train_text=True)
    config["optimizer"].update(end_ratio=0.3)
    config["evals"]["scenes"].update(last=0.0)
    config["evals"]["losses"] = dict(batches=8, batch_size=TOTAL)
    return ConfigDict(config)


def cell(n: int, rows: int, **more: Any) -> dict[str, Any]:
    """n experts that go on from the dense run, with so many rows a batch."""
    return {
        "training.start_from": "dense",
        "training.steps": 120,
        "training.checkpoint_every": 120,
        "training.batch_size": rows,
        "optimizer.learning_rate": 0.003,  # where the dense run ended
        "optimizer.end_ratio": 0.0,
        "generator.experts.n": n,
        **more,
    }


def name(n: int, rows: int) -> str:
    """A cell's name."""
    return f"experts_{n}_{rows}" if n > 1 else f"dense_{rows}"


PAIRS = sorted({(k, rows) for n in NUMBERS for rows in (n * EACH, TOTAL) for k in (1, n)})
CELLS: dict[str, dict[str, Any]] = {
    "dense": {},
    **{name(n, rows): cell(n, rows) for n, rows in PAIRS},
    "experts_5_80_frozen_text": cell(5, TOTAL, **{"generator.experts.train_text": False}),
}
CONTROLS = {name(n, rows): name(1, rows) for n, rows in PAIRS if n > 1} | {
    "experts_5_80_frozen_text": "dense_80"
}
TABLES = {
    f"equal samples per expert: {EACH} rows each": [
        "dense",
        *(name(k, n * EACH) for n in NUMBERS for k in sorted({1, n})),
    ],
    f"equal total samples: {TOTAL} rows": [
        "dense",
        *(name(n, TOTAL) for n in NUMBERS),
        "experts_5_80_frozen_text",
    ],
}
