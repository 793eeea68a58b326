"""How near a captioner's captions are to the validation records' captions: BLEU, ROUGE-L, CIDEr
and, where asked, METEOR and SPICE.

The scores apply to any data. On synthetic scenes the evaluator `scenes` says more, because there a
caption can be parsed and found right or wrong."""

import dataclasses
from typing import Any, Literal

import numpy as np

from vilg.config import require
from vilg.data.records import LANGUAGES
from vilg.evals.base import EvaluatedModel, Evaluator, check_capability
from vilg.generators.guidance import Controls
from vilg.metrics.captions import describe, score_captions
from vilg.types import Captioner, Model, UserError


@dataclasses.dataclass(frozen=True)
class Spread:
    """The view of a source that holds `n` of its records, evenly spaced."""

    source: Any
    n: int

    def __len__(self) -> int:
        return min(self.n, len(self.source))

    def __getitem__(self, i: int) -> Any:
        return self.source[i * len(self.source) // len(self)]


@dataclasses.dataclass(frozen=True)
class Captions(Evaluator):
    """Captions `n` validation records, evenly spaced, in every language that they have captions in,
    with the likeliest token at each position.

    `zh` and `en` say whether characters or words are counted. METEOR and SPICE are Java programs
    that start slowly; without `java` they are null."""

    n: int = 256  # validation records, evenly spaced, captioned in each of their languages
    zh: Literal["char", "word"] = "char"  # unit that is counted in Chinese captions
    en: Literal["char", "word"] = "word"  # unit that is counted in English captions
    java: bool = False  # also METEOR and SPICE, Java programs that start slowly
    seed: int = 0  # seed of the captions

    def __post_init__(self) -> None:
        require(
            self.n >= 2,
            "evals.captions.n",
            self.n,
            "must be at least 2; CIDEr weighs n-grams by how many records have them",
        )

    def check(self, model: Model, path: str) -> None:
        """Errors: UserError unless the model captions."""
        check_capability(model, Captioner, path, "captions images")

    def __call__(self, model: EvaluatedModel) -> dict[str, Any]:
        images, references = self.records(model)
        result: dict[str, Any] = {}
        for language in LANGUAGES:
            have = [i for i, texts in enumerate(references) if texts[language]]
            if len(have) < 2:
                continue
            captions = model.caption(
                images[have], [language] * len(have), Controls(temperature=0.0), self.seed
            )
            scores = score_captions(
                [c.text for c in captions],
                [references[i][language] for i in have],
                language,
                getattr(self, language),
                java=self.java,
            )
            result[language] = scores.corpus | {"n": len(have), "null": scores.reasons}
        if not result:
            raise UserError(
                f"evals.captions.n={self.n}: no language has captions in two of {len(images)}"
                " validation records; give more"
            )
        return result

    def records(self, model: EvaluatedModel) -> tuple[np.ndarray, list[dict[str, list[str]]]]:
        """The pictures, uint8 [n, H, W, 3], and the captions of each picture by language. Records
        that cannot be read are left out."""
        experiment = model.experiment
        source = Spread(experiment.data.valid, self.n)
        if len(source) == 0:
            raise UserError(
                f"evals.captions reads {experiment.data.valid}, which has no records; check"
                " data.valid"
            )
        stream = experiment.data.loader.once(
            source,
            None,
            image_size=experiment.image_codec.image_size,
            batch_size=min(64, len(source)),
        )
        images, references = [], []
        for batch in stream:
            for image, record, valid in zip(
                batch["image"], batch["records"], batch["valid"], strict=True
            ):
                if valid:
                    images.append(image)
                    references.append(
                        {
                            g: [c["text"] for c in record["captions"] if c["language"] == g]
                            for g in LANGUAGES
                        }
                    )
        return np.stack(images), references

    def protocol(self) -> dict[str, Any]:
        """The settings that the numbers depend on."""
        rules = {g: describe(g, getattr(self, g)) for g in LANGUAGES}
        return dataclasses.asdict(self) | {
            "split": "valid",
            "captions": "likeliest tokens",
            "scores": rules,
        }
