"""The pictures that a run writes while it trains: reconstructions, or samples of the captions, of
the first validation records.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vilg.experiment import Experiment
from vilg.generators.guidance import Controls
from vilg.report.grids import grid
from vilg.types import Captioner, Generator
from vilg.workdir.session import Session

SHOWN = 16  # pictures in a grid


def first_examples(experiment: Experiment, text_model: Any) -> dict[str, Any]:
    """The first validation records, as one batch."""
    stream = experiment.data.loader.once(
        experiment.data.valid,
        text_model,
        image_size=experiment.image_codec.image_size,
        text_length=experiment.data.text.length,
        batch_size=min(SHOWN, len(experiment.data.valid)),
        limit=SHOWN,
    )
    return next(iter(stream))


def illustrate(session: Session, examples: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A grid of originals above their reconstructions (a codec) or above samples of their captions
    (a generator), and for each column a line with the caption, and the model's caption where it
    captions. A codec has no lines.
    """
    images = examples["image"]
    if not isinstance(session.experiment.model, Generator):
        return (
            grid(
                np.concatenate([images, session.pictures(session.codes(images))]),
                columns=len(images),
            ),
            [],
        )
    made = session.sample(
        examples["captions"], session.experiment.controls, 0, examples["language"]
    )
    lines = list(examples["captions"])
    if isinstance(session.experiment.model, Captioner):
        captions = session.caption(images, examples["language"], Controls(temperature=0.0))
        lines = [
            f"{prompt} | {caption.text}" for prompt, caption in zip(lines, captions, strict=True)
        ]
    return (
        grid(np.concatenate([images, np.stack([m.image for m in made])]), columns=len(images)),
        lines,
    )
