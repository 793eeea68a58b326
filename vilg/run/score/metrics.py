"""The metrics of `vilg score images` as a table: what each needs, how it is computed from the sets,
and what it is, for the protocol.

Separate from score_images.py, which collects the sets: a new metric is a group here and a line of
the table."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from vilg.data.prompts import Prompt
from vilg.metrics.frechet import frechet_distance
from vilg.metrics.inception_score import inception_score
from vilg.metrics.kernel import kernel_distance
from vilg.metrics.neighbours import DENSITY_K, PRECISION_K, density_coverage, precision_recall
from vilg.run.score.extractors import Extractor

Found = tuple[dict[str, float], dict[str, Any], list[str]]  # values, protocol, warnings


@dataclasses.dataclass(frozen=True)
class Compared:
    """A set of pictures, its reference and its prompts (in the order of the pictures), where there
    are any.
    """

    made: Any  # PictureSets: which of their fields are filled is what the metrics asked for keep
    real: Any  # None where no metric asked for needs it
    extractor: Any
    prompts: list[Prompt]
    seed: int


@dataclasses.dataclass(frozen=True)
class Group:
    """Metrics that are computed together. `keeps` is what they need of a set beside its
    statistics.
    """

    compute: Callable[[Compared], Found]
    keeps: tuple[str, ...] = ()
    reference: bool = True
    texts: bool = False


def frechet(sets: Compared) -> Found:
    """FID."""
    how = {
        "distance": (
            "Frechet distance of Gaussians, covariances divided by N - 1 (Heusel et al. 2017)"
        )
    }
    return {"FID": frechet_distance(sets.made.statistics, sets.real.statistics)}, how, []


def kernel(sets: Compared) -> Found:
    """KID."""
    found = kernel_distance(sets.real.features, sets.made.features, seed=sets.seed)
    how = {
        "kernel": "(x.y / d + 1)^3, unbiased",
        "subsets": found.subsets,
        "subset_size": found.size,
        "seed": sets.seed,
    }
    return {"KID": found.mean, "KID_deviation": found.deviation}, how, []


def score(sets: Compared) -> Found:
    """IS."""
    found = inception_score(np.asarray(sets.made.probabilities), seed=sets.seed)
    return (
        {"IS": found.mean, "IS_deviation": found.deviation},
        {"splits": found.splits, "seed": sets.seed},
        [],
    )


def fidelity(sets: Compared) -> Found:
    """Precision and recall."""
    return (
        precision_recall(sets.real.features, sets.made.features),
        {"neighbours": PRECISION_K, "of": "Kynkaanniemi et al. 2019"},
        [],
    )


def density(sets: Compared) -> Found:
    """Density and coverage."""
    return (
        density_coverage(sets.real.features, sets.made.features),
        {"neighbours": DENSITY_K, "of": "Naeem et al. 2020"},
        [],
    )


def clip_score(sets: Compared) -> Found:
    """CLIP-score."""
    texts, languages = [p.text for p in sets.prompts], [p.language for p in sets.prompts]
    found, cut = sets.extractor.texts(texts, languages)
    cosines = np.einsum(
        "nd,nd->n", np.asarray(sets.made.features, np.float64), found.astype(np.float64)
    )
    scores = 100.0 * np.maximum(cosines, 0.0)
    how = {
        "definition": (
            "mean over pictures of 100 max(cosine, 0) (Hessel et al. 2021 multiply by 2.5 in place"
            " of 100)"
        ),
        "cut_prompts": cut,
    }
    return (
        {"CLIP-score": float(scores.mean()), "CLIP-score_deviation": float(scores.std())},
        how,
        text_warnings(sets.extractor, languages, cut),
    )


def text_warnings(extractor: Extractor, languages: list[str], cut: int) -> list[str]:
    """What is wrong with the prompts for this network."""
    foreign = [g for g in languages if g not in extractor.languages]  # type: ignore[attr-defined]
    said = [
        f"{len(foreign)} of {len(languages)} prompts are not in a language that {extractor.name}"
        " knows; its score of them means little"
    ]
    long = [
        f"{cut} of {len(languages)} prompts are longer than {extractor.name} reads; their ends"
        " were cut"
    ]
    return (said if foreign else []) + (long if cut else [])


PRECISION, DENSITY = Group(fidelity, ("features",)), Group(density, ("features",))
METRICS: dict[str, Group] = {
    "FID": Group(frechet),
    "KID": Group(kernel, ("features",)),
    "IS": Group(score, ("probabilities",), reference=False),
    "precision": PRECISION,
    "recall": PRECISION,
    "density": DENSITY,
    "coverage": DENSITY,
    "CLIP-score": Group(clip_score, ("features",), reference=False, texts=True),
}
