"""The `synthetic` data source: record i of a split is a pure function of the config and i, and is
made when it is read."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from vilg.config import require
from vilg.data.records import Record
from vilg.data.scenes.captions import LANGUAGES, WORDINGS, Caption, describe, kind_of, questions
from vilg.data.scenes.render import render
from vilg.data.scenes.sampling import SPLITS, Pairs, SceneConfig, Split, sample_scene
from vilg.data.scenes.scene import Object, Scene


@dataclass(frozen=True)
class Synthetic(SceneConfig):
    """Procedural scenes with captions."""

    n: int = 1_000_000  # records
    seed: int = 0  # of the scenes
    split: Split = "train"  # which scenes are drawn; no scene is in two splits
    languages: tuple[str, ...] = LANGUAGES  # languages of the captions
    annotations: bool = False  # adds boxes, words and questions, which training does not need
    # Share of pictures with several different objects whose captions name the first object only, as
    # people's captions often do. With annotations, `machine_captions` has the full captions.
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
        """The random generator of record i."""
        if not 0 <= i < self.n:
            raise IndexError(f"record {i} of {self.n}")
        return random.Random(f"{self.seed}/{self.split}/{i}")

    def scene(self, i: int) -> Scene:
        """Scene i, without its picture."""
        return sample_scene(self._rng(i), self, self.split)

    def __getitem__(self, i: int) -> Record:
        """Record i, with one caption a language.

        With annotations, `words` has a list for each caption."""
        rng = self._rng(i)
        scene = sample_scene(rng, self, self.split)
        kind = kind_of(scene)
        full = [
            describe(scene, language, rng.randrange(len(WORDINGS[language][kind])))
            for language in self.languages
        ]
        omits = self.omitted > 0 and kind in ("two", "three") and rng.random() < self.omitted
        captions = full
        if omits:
            first = Scene(scene.objects[:1])
            captions = [
                describe(first, language, rng.randrange(len(WORDINGS[language]["one"])))
                for language in self.languages
            ]
        record: Record = {
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
            record["words"] = words_of(captions)
            if omits:
                record["machine_captions"] = [
                    {"text": caption.text, "language": caption.language} for caption in full
                ]
                record["machine_words"] = words_of(full)
            record["qa"] = [qa for language in self.languages for qa in questions(scene, language)]
        return record


def words_of(captions: Sequence[Caption]) -> list[list[dict[str, str]]]:
    """The words of each caption, {text, tag}."""
    return [[{"text": text, "tag": tag} for text, tag in caption.words] for caption in captions]


def name(o: Object, language: str) -> str:
    """The name of an object in a language: its caption without the article."""
    return "".join(
        describe(Scene((o,)), language).text.split("一个" if language == "zh" else "a ", 1)
    )


def cell(source: Synthetic, objects: int, pairs: str, n: int, split: str = "test") -> list[Scene]:
    """n scenes of one cell of a result table: exactly `objects` different objects, whose
    colour-shape pairs are "seen" or "held_out".

    Everything else (size, snap, backgrounds, seed) is as in the source that was trained on."""
    scenes = Synthetic(
        image_size=source.image_size,
        snap=source.snap,
        backgrounds=source.backgrounds,
        withheld=source.withheld,
        seed=source.seed,
        min_objects=objects,
        max_objects=objects,
        groups=0.0,
        pairs=cast(Pairs, pairs),
        split=cast(Split, split),
        n=n,
    )
    return [scenes.scene(i) for i in range(n)]
