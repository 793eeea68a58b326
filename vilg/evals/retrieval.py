"""Whether a dual encoder finds a picture's caption among other captions, and a caption's picture
among other pictures; and whether it notices the change of one word.

Recall among captions of other records says little about a ranker for best-of-N, whose candidates
all show nearly what the prompt asks for. On synthetic scenes each picture is therefore also
compared with its caption after one thing in it has changed (data/scenes/changes.py); each kind of
change has its own score."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from vilg.config import require
from vilg.data.scenes.captions import WORDINGS, describe, kind_of
from vilg.data.scenes.changes import CHANGES, change
from vilg.data.scenes.render import render
from vilg.data.scenes.source import Synthetic
from vilg.evals.base import EvaluatedRanker, Evaluator, check_capability
from vilg.evals.records import captioned_records
from vilg.metrics.intervals import interval
from vilg.types import Embedder, Model

RECALLS = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Retrieval(Evaluator):
    """Evaluates `n` validation records of each language, no two with the same caption, and
    `changes` scenes for each kind of change (0: none)."""

    n: int = 256  # validation records of each language, no two with the same caption
    changes: int = 256  # scenes for each kind of changed caption; 0: none

    def __post_init__(self) -> None:
        require(self.n > max(RECALLS), "evals.retrieval.n", self.n, f"must be above {max(RECALLS)}")

    def check(self, model: Model, path: str) -> None:
        """Errors: UserError unless the model embeds pictures and texts."""
        check_capability(model, Embedder, path, "asks for features")

    def __call__(self, model: EvaluatedRanker) -> dict[str, Any]:
        result: dict[str, Any] = {
            g: self.recall(model, g) for g in model.experiment.data.loader.languages
        }
        result["chance"] = {f"recall_{k}": k / self.n for k in RECALLS}
        if self.changes and isinstance(model.experiment.data.valid, Synthetic):
            result["changed"] = {
                kind: table for kind in CHANGES if (table := self.changed(model, kind))
            } | {"chance": 0.5}
        return result

    def recall(self, model: EvaluatedRanker, language: str) -> dict[str, object]:
        """Recall in both directions, among records of one language."""
        pairs = captioned_records(model, self.n, (language,), "evals.retrieval.n")
        images = model.embed_images([p.image for p in pairs])
        texts = model.embed_texts([p.captions[language] for p in pairs], [language] * len(pairs))
        return {
            "image_to_text": recalls(images @ texts.T),
            "text_to_image": recalls(texts @ images.T),
        }

    def changed(self, model: EvaluatedRanker, kind: str) -> dict[str, object]:
        """How often the picture is nearer to its own caption than to the changed caption; the
        languages take turns. Returns {} where the source has no such scenes (for counts: where no
        caption says a count)."""
        source, languages = model.experiment.data.valid, model.experiment.data.loader.languages
        if kind == "count" and not (source.groups and source.max_objects > 1):
            return {}
        images, right, wrong, spoken = [], [], [], []
        for i in range(min(len(source), 20 * self.changes)):
            scene, rng = source.scene(i), random.Random(f"{kind}/{i}")
            other = change(scene, kind, rng)
            if other is None:
                continue
            language = languages[len(images) % len(languages)]
            wording = rng.randrange(
                min(len(WORDINGS[language][kind_of(s)]) for s in (scene, other))
            )
            images.append(render(scene, source.image_size))
            right.append(describe(scene, language, wording).text)
            wrong.append(describe(other, language, wording).text)
            spoken.append(language)
            if len(images) == self.changes:
                break
        if not images:
            return {}
        features = model.embed_images(images)
        own, others = (
            np.sum(features * model.embed_texts(texts, spoken), -1) for texts in (right, wrong)
        )
        share = float(np.mean(own > others))
        return {
            "accuracy": share,
            "ci95": list(interval(share, len(images))),
            "n": float(len(images)),
        }

    def protocol(self) -> dict[str, Any]:
        """The settings that the numbers depend on."""
        return dataclasses.asdict(self) | {
            "split": "valid",
            "recall": (
                "the share of queries whose own partner is among the k of largest cosine of n, ties"
                " against it"
            ),
            "changed": (
                "the share of pictures nearer to their caption than to the same with one thing"
                " changed, ties against it"
            ),
        }


def recalls(similarity: Float[np.ndarray, "n n"], ks: Sequence[int] = RECALLS) -> dict[str, float]:
    """recall_k of queries (rows) whose own partner is on the diagonal; a candidate as similar as
    the partner counts as ranked before it."""
    before = (similarity >= np.diagonal(similarity)[:, None]).sum(1) - 1
    return {f"recall_{k}": float(np.mean(before < k)) for k in ks}
