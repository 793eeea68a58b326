"""The `synthetic` data source: record i of a split is a pure function of (config, i), made on the
fly.

Separate from the sampler because it alone knows the record schema; the loader treats it like any
other source."""

import random
from dataclasses import dataclass
from typing import Any, Literal

from vilg.config import require
from vilg.data.scenes.captions import LANGUAGES, WORDINGS, describe, kind_of, questions
from vilg.data.scenes.render import render
from vilg.data.scenes.sampling import SPLITS, SceneConfig, sample_scene
from vilg.data.scenes.scene import Object, Scene


@dataclass(frozen=True)
class Synthetic(SceneConfig):
    """Procedural scenes. `n` is how many there are to draw; `annotations` adds boxes, words and
    questions to a record, which training does not need. `omitted` is the share of pictures with
    several different objects whose captions name the first of them only, as people's captions do;
    what would have been said is then the record's `machine_captions`, where it is annotated."""

    n: int = 1_000_000
    seed: int = 0
    split: Literal["train", "valid", "test"] = "train"
    languages: tuple[str, ...] = LANGUAGES
    annotations: bool = False
    omitted: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        require(self.n >= 1, "n", self.n, "must be at least 1")
        require(self.split in SPLITS, "split", self.split, f"must be one of {', '.join(SPLITS)}")
        require(
            0 <= self.omitted <= 1,
            "omitted",
            self.omitted,
            "must be a share of pictures, from 0 to 1",
        )
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
        """Record i: `captions` has one wording a language; `words`, where annotated, a list for
        each caption.
        """
        rng = self._rng(i)
        scene = sample_scene(rng, self, self.split)
        kind = kind_of(scene)
        whole = [
            describe(scene, language, rng.randrange(len(WORDINGS[language][kind])))
            for language in self.languages
        ]
        omits = self.omitted > 0 and kind in ("two", "three") and rng.random() < self.omitted
        first, one = (
            Scene(scene.objects[:1]),
            [rng.randrange(len(WORDINGS[language]["one"])) for language in self.languages if omits],
        )
        captions = (
            [describe(first, language, k) for language, k in zip(self.languages, one, strict=True)]
            if omits
            else whole
        )
        record = {
            "id": f"synthetic/{self.split}/{self.seed}/{i}",
            "image": render(scene, self.image_size),
            "captions": [
                {"text": caption.text, "language": caption.language} for caption in captions
            ],
            "source": "synthetic",
            "license": "CC0-1.0",
            "scene": scene.to_dict(),
        }
        if self.annotations:
            names = [{language: name(o, language) for language in LANGUAGES} for o in scene.objects]
            record["boxes"] = [
                {"xyxy": list(o.box), "label": n["en"], "labels": n}
                for o, n in zip(scene.objects, names, strict=True)
            ]
            record["words"] = [
                [{"text": text, "tag": tag} for text, tag in caption.words] for caption in captions
            ]
            if omits:
                record["machine_captions"] = [
                    {"text": caption.text, "language": caption.language} for caption in whole
                ]
                record["machine_words"] = [
                    [{"text": text, "tag": tag} for text, tag in caption.words] for caption in whole
                ]
            record["qa"] = [qa for language in self.languages for qa in questions(scene, language)]
        return record


def name(o: Object, language: str) -> str:
    """What an object is called: its caption without the article."""
    return "".join(
        describe(Scene((o,)), language).text.split("一个" if language == "zh" else "a ", 1)
    )


def cell(source: Synthetic, objects: int, pairs: str, n: int, split: str = "test") -> list[Scene]:
    """n scenes of one cell of a result table: exactly `objects` objects, none alike, their
    colour-shape pairs "seen" or "held_out".

    Everything else (size, snap, backgrounds, seed) is as in the source that was trained on.
    """
    own: dict[str, Any] = {
        name: getattr(source, name)
        for name in ("image_size", "snap", "backgrounds", "withheld", "seed")
    }
    own |= {"pairs": pairs, "split": split}
    drawn = Synthetic(**own, min_objects=objects, max_objects=objects, groups=0.0, n=n)
    return [drawn.scene(i) for i in range(n)]
