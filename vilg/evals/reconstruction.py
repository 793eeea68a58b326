"""How well the codec reconstructs pictures: PSNR, whether scenes can still be read from the decoded
pictures and, for a Tokenizer, how much of its vocabulary it uses."""

import dataclasses
from typing import Any

import numpy as np

from vilg.config import require
from vilg.data.scenes.render import render
from vilg.data.scenes.scorer import score
from vilg.data.scenes.source import Synthetic, cell
from vilg.evals.base import EvaluatedModel, Evaluator
from vilg.types import Tokenizer


@dataclasses.dataclass(frozen=True)
class Reconstruction(Evaluator):
    """Evaluates on `images` validation records; on synthetic scenes also returns the share of
    `images` two-object scenes that read right after decoding."""

    images: int = 512  # validation records; on synthetic scenes also as many scenes of two objects
    split: str = "valid"  # split of the synthetic scenes

    def __post_init__(self) -> None:
        require(self.images > 0, "evals.reconstruction.images", self.images, "must be at least 1")

    def __call__(self, model: EvaluatedModel) -> dict[str, float]:
        experiment = model.experiment
        source = experiment.data.valid
        originals = []
        for batch in experiment.data.loader.once(
            source,
            None,
            image_size=experiment.image_codec.image_size,
            batch_size=min(64, len(source)),
            limit=self.images,
        ):
            originals.append(batch["image"][batch["valid"]])
        images = np.concatenate(originals)
        codes = model.codes(images)
        decoded = model.pictures(codes)
        error = np.mean(
            ((images.astype(np.float32) - decoded.astype(np.float32)) / 255) ** 2, (1, 2, 3)
        )
        result = {
            "psnr": float(np.mean(-10 * np.log10(np.maximum(error, 1e-10)))),
            "images": float(len(images)),
        }
        if isinstance(experiment.image_codec, Tokenizer):
            result |= usage(codes, experiment.image_codec.vocabulary)
        if isinstance(source, Synthetic):
            objects, name = (2, "two_objects") if source.max_objects > 1 else (1, "single_object")
            scenes = cell(source, objects, "seen", self.images, self.split)
            pictures = np.stack([render(s, experiment.image_codec.image_size) for s in scenes])
            decoded = model.pictures(model.codes(pictures))
            result[name] = float(
                np.mean([score(i, s).everything for i, s in zip(decoded, scenes, strict=True)])
            )
        return result

    def protocol(self) -> dict[str, Any]:
        """The pictures that the numbers are taken on."""
        return {
            "images": self.images,
            "split": self.split,
            "psnr": "mean over images of per-image PSNR, uint8",
        }


def usage(codes: np.ndarray, vocabulary: int) -> dict[str, float]:
    """The share of the vocabulary that occurs in the codes, and the perplexity of their
    distribution, exp(entropy)."""
    counts = np.bincount(codes.ravel(), minlength=vocabulary)
    share = counts[counts > 0] / counts.sum()
    return {
        "codebook_usage": float(np.mean(counts > 0)),
        "perplexity": float(np.exp(-np.sum(share * np.log(share)))),
    }
