"""Whether a picture shows what its prompt says, and whether a caption says what its picture shows:
scored exactly, on synthetic scenes.

A cell is a number of objects with seen or held-out colour-shape pairs. Each cell has n new scenes
of a split that training never draws, half in Chinese and half in English, with one sample a prompt
or, with `best_of`, the best of several as chosen by a ranker."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np

from vilg.config import require
from vilg.data.scenes.captions import LANGUAGES, WORDINGS, caption_is_right, describe, kind_of
from vilg.data.scenes.render import render
from vilg.data.scenes.scene import Scene
from vilg.data.scenes.scorer import score
from vilg.data.scenes.source import Synthetic, cell
from vilg.evals.base import EvaluatedModel, EvaluatedRanker, Reranking, Scored, check_capability
from vilg.generators.guidance import Controls
from vilg.metrics.intervals import interval
from vilg.types import Captioner, Model, UserError

CELLS = {
    "single_object": (1, "seen"),
    "two_objects": (2, "seen"),
    "held_out_single": (1, "held_out"),
    "held_out_two": (2, "held_out"),
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """A prompt with its scene, the picture or caption that the model produced, and whether it is
    right."""

    cell: str
    kind: Literal["sample", "caption"]
    scene: Scene
    language: str
    prompt: str  # the prompt of a sample, the text of a caption
    image: np.ndarray  # the sample, or the captioned picture
    right: bool
    parts: dict[str, bool]


@dataclasses.dataclass(frozen=True)
class Scenes(Reranking):
    """Evaluates n scenes of each cell. The fields of Sampling are the picture sampler's options;
    captions take the likeliest token at each position."""

    n: int = 256  # scenes of a cell
    split: Literal["valid", "test"] = "valid"  # scenes that training never draws
    seed: int = 0  # seed of the pictures
    captions: bool = True  # also captions the true pictures of the scenes
    cells: tuple[str, ...] = tuple(CELLS)  # kinds of scenes, keys of CELLS (vilg/evals/scenes.py)

    def __post_init__(self) -> None:
        require(self.n >= 2, "evals.scenes.n", self.n, "must be at least 2, one a language")
        for name in self.cells:
            require(
                name in CELLS, "evals.scenes.cells", name, f"known cells are {', '.join(CELLS)}"
            )
        require(self.best_of >= 1, "evals.scenes.best_of", self.best_of, "must be at least 1")
        remedy = (
            f"and ranker={self.ranker!r} go together: give best_of of 2 or more and the ranker's"
            " workdir, or neither"
        )
        require(
            (self.best_of > 1) == bool(self.ranker), "evals.scenes.best_of", self.best_of, remedy
        )

    def check(self, model: Model, path: str) -> None:
        """Errors: UserError unless the model samples and, where `captions` is set, captions."""
        if self.captions:
            check_capability(model, Captioner, path, "captions images")
        super().check(model, path)

    def without_captions(self) -> "Scenes":
        """The same scenes, only sampled."""
        return dataclasses.replace(self, captions=False)

    def scenes(self, model: EvaluatedModel) -> dict[str, list[Scene]]:
        """The scenes of each cell that the data has."""
        source = model.experiment.data.train
        if not isinstance(source, Synthetic):
            raise UserError(
                f"evals.scenes reads {type(source).__name__} data, which it cannot score; it needs"
                " data.train.name='synthetic'"
            )
        scenes = {}
        for name in self.cells:
            objects, pairs = CELLS[name]
            if objects > source.max_objects or (pairs == "held_out" and source.withheld == 0):
                continue
            scenes[name] = cell(source, objects, pairs, self.n, self.split)
        return scenes

    def trials(self, model: EvaluatedModel) -> list[Trial]:
        """Every sample and caption with its verdict."""
        out = []
        for name, scenes in self.scenes(model).items():
            languages = [LANGUAGES[i % len(LANGUAGES)] for i in range(self.n)]
            out += self._sampled(model, name, scenes, languages)
            if self.captions and isinstance(model.experiment.model, Captioner):
                out += self._captioned(model, name, scenes, languages)
        return out

    def _sampled(
        self, model: EvaluatedModel, name: str, scenes: Sequence[Scene], languages: Sequence[str]
    ) -> list[Trial]:
        wordings = [len(WORDINGS[g][kind_of(s)]) for s, g in zip(scenes, languages, strict=True)]
        chosen = [i // len(LANGUAGES) % n for i, n in enumerate(wordings)]
        prompts = [
            describe(s, g, w).text for s, g, w in zip(scenes, languages, chosen, strict=True)
        ]
        samples = model.sample(
            prompts,
            self.controls(model.experiment.model),
            self.seed,
            languages,
            number=self.best_of,
        )
        if self.best_of > 1:
            samples = cast(EvaluatedRanker, model).best(samples, self.best_of, self.ranker)
        return [
            judged(name, scene, sample.language, sample.prompt, sample.image)
            for scene, sample in zip(scenes, samples, strict=True)
        ]

    def ceiling(self, model: EvaluatedModel) -> list[Trial]:
        """The trials of a perfect generator behind the codec: the true pictures of the same scenes,
        encoded and decoded."""
        out = []
        for name, scenes in self.scenes(model).items():
            size = model.experiment.image_codec.image_size
            decoded = model.pictures(model.codes(np.stack([render(s, size) for s in scenes])))
            out += [
                judged(name, s, LANGUAGES[i % len(LANGUAGES)], "", image)
                for i, (s, image) in enumerate(zip(scenes, decoded, strict=True))
            ]
        return out

    def _captioned(
        self, model: EvaluatedModel, name: str, scenes: Sequence[Scene], languages: Sequence[str]
    ) -> list[Trial]:
        images = np.stack([render(s, model.experiment.image_codec.image_size) for s in scenes])
        captions = model.caption(images, languages, Controls(temperature=0.0), self.seed)
        return [
            Trial(name, "caption", s, g, c.text, i, bool(caption_is_right(c.text, s, g)), {})
            for s, g, c, i in zip(scenes, languages, captions, images, strict=True)
        ]

    @property
    def base_seed(self) -> int:
        """The field `seed`."""
        return self.seed

    def __call__(self, model: EvaluatedModel) -> dict[str, Any]:
        return summarize(self.trials(model))

    def measured(self, model: EvaluatedModel) -> tuple[dict[str, Any], list[Scored]]:
        """The table, and every sample with its score."""
        trials = self.trials(model)
        scored = [
            Scored(
                t.cell,
                t.prompt,
                t.language,
                t.right,
                t.image,
                t.parts if CELLS[t.cell][0] > 1 else {},
                {"scene": t.scene.to_dict()},
            )
            for t in trials
            if t.kind == "sample"
        ]
        return summarize(trials), scored

    def fewer(self, n: int) -> "Scenes":
        """At most n scenes of each cell of seen pairs, without captions."""
        seen = tuple(c for c in self.cells if CELLS[c][1] == "seen")
        return dataclasses.replace(self, n=min(self.n, n), captions=False, cells=seen or self.cells)

    def protocol(self) -> dict[str, Any]:
        """The settings that determine the numbers besides the model. A sampling option that is None
        has the generator's default."""
        return self.settings() | {
            "single_object": "colour and shape right, one object",
            "two_objects": "every attribute and the relation right",
            "captions": "parses back to the scene in the asked language; likeliest tokens",
            "samples_per_prompt": self.best_of,
            "reranking": (
                f"the best of {self.best_of} by the cosine of {self.ranker}"
                if self.ranker
                else "none"
            ),
        }


def judged(cell_name: str, scene: Scene, language: str, prompt: str, image: np.ndarray) -> Trial:
    """The trial of a picture that should show a scene. With one object it is right when colour,
    shape and count are right; with two, when every attribute and the relation are."""
    verdict = score(image, scene)
    parts = {
        k: bool(v) for k, v in dataclasses.asdict(verdict).items() if isinstance(v, bool | np.bool_)
    }
    right = verdict.everything
    if len(scene.objects) == 1:
        right = verdict.colour_and_shape and verdict.count
    return Trial(cell_name, "sample", scene, language, prompt, image, bool(right), parts)


def summarize(trials: Sequence[Trial]) -> dict[str, Any]:
    """The score table of report.json: fractions, counts and 95 % intervals, over all trials and by
    language."""

    def shares(chosen: Sequence[Trial]) -> dict[str, list[bool]]:
        groups: dict[str, list[bool]] = {}
        for t in chosen:
            groups.setdefault(_name(t), []).append(t.right)
            if t.kind == "sample":
                for part, value in t.parts.items():
                    groups.setdefault(f"{t.cell}/{part}", []).append(value)
        return groups

    def by_cell(groups: dict[str, list[bool]], value: Any) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, rights in groups.items():
            if "/" in name:
                continue
            group, key = out, name
            if name.startswith("held_out_"):
                group, key = out.setdefault("held_out", {}), name.removeprefix("held_out_")
            group[KEYS.get(key, key)] = value(rights)
        return out

    def share(rights: list[bool]) -> float:
        return float(np.mean(rights))

    def figures(groups: dict[str, list[bool]]) -> dict[str, Any]:
        limits = by_cell(
            groups, lambda rights: [round(x, 4) for x in interval(share(rights), len(rights))]
        )
        return by_cell(groups, share) | {"n": by_cell(groups, len), "ci95": limits}

    groups = shares(trials)
    by_language = {
        g: figures(shares([t for t in trials if t.language == g]))
        for g in sorted({t.language for t in trials})
    }
    parts: dict[str, Any] = {}
    for name, rights in groups.items():
        if "/" in name:
            cell_name, part = name.split("/")
            parts.setdefault(cell_name, {})[part] = share(rights)
    return figures(groups) | {"by_language": by_language, "parts": parts}


# Within the group `held_out`, the cells held_out_single and held_out_two have the names of the seen
# cells.
KEYS = {"single": "single_object", "two": "two_objects"}


def _name(trial: Trial) -> str:
    """The name of the trial's row in the score table."""
    if trial.kind == "sample":
        return trial.cell
    two = trial.cell.endswith(("two", "two_objects"))
    held_out = "held_out_" if trial.cell.startswith("held_out") else ""
    return held_out + ("captions_exact_two" if two else "captions_exact")
