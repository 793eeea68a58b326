"""The metrics of `vilg score images` as a table: what each needs, and how it is computed.

Separate from images.py, which collects the sets of pictures. To add a metric, write a function here
and a line in METRICS."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vilg.data.prompts import Prompt
from vilg.metrics.frechet import frechet_distance
from vilg.metrics.inception_score import inception_score
from vilg.metrics.kernel import kernel_distance
from vilg.metrics.neighbours import DENSITY_K, PRECISION_K, density_coverage, precision_recall
from vilg.run.score.features import Extractor, TextExtractor
from vilg.run.score.picture_set import PictureSet


@dataclasses.dataclass(frozen=True)
class Compared:
    """A set of pictures with its reference and its prompts (in the order of the pictures), where
    the metrics that were asked for need them. A set holds only what these metrics keep.
    """

    made: PictureSet
    reference: PictureSet | None
    extractor: Extractor
    prompts: Sequence[Prompt]
    seed: int

    @property
    def real(self) -> PictureSet:
        """The reference, for a metric that needs one."""
        assert self.reference is not None
        return self.reference

    @property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """The features of the reference and of the pictures, for a metric that keeps them."""
        real, made = self.real.features, self.made.features
        assert real is not None and made is not None
        return real, made


@dataclasses.dataclass(frozen=True)
class Result:
    """Values by metric, how they were computed (for the protocol), and what a reader must know."""

    values: Mapping[str, float]
    protocol: Mapping[str, Any]
    warnings: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Group:
    """Metrics that are computed together. `keeps`: fields of a PictureSet that they need beside its
    statistics; `reference` and `texts`: whether they need a reference and prompts.
    """

    compute: Callable[[Compared], Result]
    keeps: tuple[str, ...] = ()
    reference: bool = True
    texts: bool = False


def frechet(sets: Compared) -> Result:
    """FID."""
    how = "Frechet distance of Gaussians, covariances divided by N - 1 (Heusel et al. 2017)"
    distance = frechet_distance(sets.made.statistics, sets.real.statistics)
    return Result({"FID": distance}, {"distance": how})


def kernel(sets: Compared) -> Result:
    """KID."""
    distance = kernel_distance(*sets.features, seed=sets.seed)
    how = {
        "kernel": "(x.y / d + 1)^3, unbiased",
        "subsets": distance.subsets,
        "subset_size": distance.size,
        "seed": sets.seed,
    }
    return Result({"KID": distance.mean, "KID_deviation": distance.deviation}, how)


def inception(sets: Compared) -> Result:
    """IS."""
    score = inception_score(np.asarray(sets.made.probabilities), seed=sets.seed)
    values = {"IS": score.mean, "IS_deviation": score.deviation}
    return Result(values, {"splits": score.splits, "seed": sets.seed})


def fidelity(sets: Compared) -> Result:
    """Precision and recall."""
    how = {"neighbours": PRECISION_K, "of": "Kynkaanniemi et al. 2019"}
    return Result(precision_recall(*sets.features), how)


def density(sets: Compared) -> Result:
    """Density and coverage."""
    how = {"neighbours": DENSITY_K, "of": "Naeem et al. 2020"}
    return Result(density_coverage(*sets.features), how)


def clip_score(sets: Compared) -> Result:
    """CLIP-score."""
    extractor = sets.extractor
    assert isinstance(extractor, TextExtractor)
    texts, languages = [p.text for p in sets.prompts], [p.language for p in sets.prompts]
    of_texts, cut = extractor.texts(texts, languages)
    of_images = np.asarray(sets.made.features, np.float64)
    scores = 100.0 * np.maximum(np.einsum("nd,nd->n", of_images, of_texts.astype(np.float64)), 0.0)
    how = {
        "definition": (
            "mean over pictures of 100 max(cosine, 0) (Hessel et al. 2021 multiply by 2.5 in place"
            " of 100)"
        ),
        "cut_prompts": cut,
    }
    values = {"CLIP-score": float(scores.mean()), "CLIP-score_deviation": float(scores.std())}
    return Result(values, how, text_warnings(extractor, languages, cut))


def text_warnings(extractor: TextExtractor, languages: Sequence[str], cut: int) -> list[str]:
    """Sentences on prompts that the network cannot read in full."""
    foreign = [language for language in languages if language not in extractor.languages]
    said = []
    if foreign:
        said.append(
            f"{len(foreign)} of {len(languages)} prompts are not in a language that"
            f" {extractor.name} knows; its score of them means little"
        )
    if cut:
        said.append(
            f"{cut} of {len(languages)} prompts are longer than {extractor.name} reads; their ends"
            " were cut"
        )
    return said


PRECISION, DENSITY = Group(fidelity, ("features",)), Group(density, ("features",))
METRICS: dict[str, Group] = {
    "FID": Group(frechet),
    "KID": Group(kernel, ("features",)),
    "IS": Group(inception, ("probabilities",), reference=False),
    "precision": PRECISION,
    "recall": PRECISION,
    "density": DENSITY,
    "coverage": DENSITY,
    "CLIP-score": Group(clip_score, ("features",), reference=False, texts=True),
}
