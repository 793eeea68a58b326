"""The `synthetic` data source: record i of a split is a pure function of (config, i), made on the fly.

Separate from the sampler because it alone knows the record schema; the loader treats it like any other source.
"""

import random
from dataclasses import dataclass
from typing import Any, Literal

from vilg.config import require
from vilg.data.scenes.captions import LANGUAGES, WORDINGS, describe, kind_of, questions
from vilg.data.scenes.render import render
from vilg.data.scenes.sampling import SPLITS, SceneConfig, sample_scene
from vilg.data.scenes.scene import Scene


@dataclass(frozen=True)
class Synthetic(SceneConfig):
    """Procedural scenes. `n` is how many there are to draw; `annotations` adds boxes, words and
    questions to a record, which training does not need."""

    n: int = 1_000_000
    seed: int = 0
    split: Literal["train", "valid", "test"] = "train"
    languages: tuple[str, ...] = LANGUAGES
    annotations: bool = False

    def __post_init__(self):
        super().__post_init__()
        require(self.n >= 1, "n", self.n, "must be at least 1")
        require(self.split in SPLITS, "split", self.split, f"must be one of {', '.join(SPLITS)}")
        known = bool(self.languages) and all(language in LANGUAGES for language in self.languages)
        require(known, "languages", self.languages, f"name one or more of {', '.join(LANGUAGES)}")

    def __len__(self) -> int:
        return self.n

    def _rng(self, i: int) -> random.Random:
        if not 0 <= i < self.n:
            raise IndexError(f"record {i} of {self.n}")
        return random.Random(f"{self.seed}/{self.split}/{i}")

    def scene(self, i: int) -> Scene:
        """Scene i, without its picture."""
        return sample_scene(self._rng(i), self, self.split)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Record i: `captions` has one wording a language; `words`, where annotated, a list for each caption."""
        rng = self._rng(i)
        scene = sample_scene(rng, self, self.split)
        kind = kind_of(scene)
        captions = [describe(scene, language, rng.randrange(len(WORDINGS[language][kind]))) for language in self.languages]
        record = {
            "id": f"synthetic/{self.split}/{self.seed}/{i}",
            "image": render(scene, self.image_size),
            "captions": [{"text": caption.text, "language": caption.language} for caption in captions],
            "source": "synthetic",
            "license": "CC0-1.0",
            "scene": scene.to_dict(),
        }
        if self.annotations:
            english = [describe(Scene((o,)), "en").text.removeprefix("a ") for o in scene.objects]
            record["boxes"] = [{"xyxy": list(o.box), "label": label} for o, label in zip(scene.objects, english, strict=True)]
            record["words"] = [[{"text": text, "tag": tag} for text, tag in caption.words] for caption in captions]
            record["qa"] = [qa for language in self.languages for qa in questions(scene, language)]
        return record


def cell(source: Synthetic, objects: int, pairs: str, n: int, split: str = "test") -> list[Scene]:
    """n scenes of one cell of a result table: exactly `objects` objects, none alike, their colour-shape pairs "seen" or "held_out".

    Everything else (size, snap, backgrounds, seed) is as in the source that was trained on.
    """
    own = {name: getattr(source, name) for name in ("image_size", "snap", "backgrounds", "withheld", "seed")}
    drawn = Synthetic(**own, min_objects=objects, max_objects=objects, groups=0.0, pairs=pairs, split=split, n=n)  # type: ignore[arg-type]
    return [drawn.scene(i) for i in range(n)]
