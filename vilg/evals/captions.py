"""How near the captions of a captioner are to those of its validation records: BLEU, ROUGE-L,
CIDEr, and METEOR and SPICE where asked.

For any data; on synthetic scenes `scenes` says more, since there a caption can be read and be right
or wrong."""

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
    """`n` records of a source, evenly spaced."""

    source: Any
    n: int

    def __len__(self) -> int:
        return min(self.n, len(self.source))

    def __getitem__(self, i: int) -> Any:
        return self.source[i * len(self.source) // len(self)]


@dataclasses.dataclass(frozen=True)
class Captions(Evaluator):
    """`n` validation records, evenly spaced, captioned in every language that they have captions
    in; the likeliest tokens.

    `zh` and `en` are the units that are counted. METEOR and SPICE are Java programs that start
    slowly; without `java` they are null."""

    n: int = 256  # validation records, evenly spaced, captioned in each of their languages
    zh: Literal["char", "word"] = "char"  # what is counted in Chinese captions
    en: Literal["char", "word"] = "word"  # what is counted in English captions
    java: bool = False  # also METEOR and SPICE, Java programs that start slowly
    seed: int = 0  # of the captions

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
            have = [i for i, captions in enumerate(references) if captions[language]]
            if len(have) < 2:
                continue
            made = model.caption(
                images[have], [language] * len(have), Controls(temperature=0.0), self.seed
            )
            truths = [references[i][language] for i in have]
            scores = score_captions(
                [c.text for c in made], truths, language, getattr(self, language), java=self.java
            )
            result[language] = scores.corpus | {"n": len(have), "null": scores.reasons}
        if not result:
            raise UserError(
                f"evals.captions.n={self.n}: no language has captions in two of {len(images)}"
                " validation records; give more"
            )
        return result

    def records(self, model: EvaluatedModel) -> tuple[np.ndarray, list[dict[str, list[str]]]]:
        """(pictures uint8 [n, H, W, 3], the captions of each by language); records that cannot be
        read are left out.
        """
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
        images, found = [], []
        for batch in stream:
            for image, record, valid in zip(
                batch["image"], batch["records"], batch["valid"], strict=True
            ):
                if valid:
                    images.append(image)
                    found.append(
                        {
                            g: [c["text"] for c in record["captions"] if c["language"] == g]
                            for g in LANGUAGES
                        }
                    )
        return np.stack(images), found

    def protocol(self) -> dict[str, Any]:
        """What the numbers depend on."""
        rules = {g: describe(g, getattr(self, g)) for g in LANGUAGES}
        return dataclasses.asdict(self) | {
            "split": "valid",
            "captions": "likeliest tokens",
            "scores": rules,
        }
