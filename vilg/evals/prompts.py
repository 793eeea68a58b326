"""How well a generator follows the prompts of a suite, by category and by language, and how the
languages differ on the same prompts.

The file is separate from `scenes`, which asks whether a picture is right as a whole: the suite
`synthetic` scores colour, shape, count, relation, size and binding one by one, exactly. Every other
suite (data/suites.py, or a file) is judged by a ranker, a run that computes features of pictures
and of texts: the score of a picture is the cosine of its features with its prompt's features. Each
prompt has one sample, without reranking."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np

from vilg.config import require
from vilg.data.prompts import Prompt
from vilg.data.records import LANGUAGES
from vilg.data.scenes.scorer import read
from vilg.data.scenes.skills import CATEGORIES, SKILLS, draw_scenes, drawable, judge_skills
from vilg.data.scenes.source import Synthetic
from vilg.data.suite_table import SUITES, wording
from vilg.data.suites import digest, of_categories, read_suite
from vilg.evals.base import EvaluatedModel, EvaluatedRanker, Sampling, Scored
from vilg.metrics.intervals import interval, t_interval
from vilg.types import UserError

Item = TypeVar("Item")
PICTURES_AT_ONCE = 1024  # sampled pictures that are held in memory together


@dataclasses.dataclass(frozen=True)
class Judged:
    """A prompt and the score of its picture: True or False, a cosine, or None where it cannot be
    determined. For a scene, `parts` holds the six skills, "everything" and "readable"."""

    id: str
    category: str
    category_en: str
    language: str
    score: float | bool | None
    prompt: str = ""
    image: np.ndarray | None = None
    parts: dict[str, bool | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Prompts(Sampling):
    """Scores `n` prompts of each category in each language, evenly spaced in the suite (0: all of
    them); both languages have the same prompts.

    `suite` is a name or a file, and `ranker` the workdir of the run that judges it. The suite
    `synthetic` needs no ranker: its scenes are drawn with the fields of the training data, from a
    `split` that training never draws. Empty `categories` or `languages` stand for all that the
    suite has. `translation` says who translated the Chinese captions of a suite whose file does not
    say so."""

    suite: str = "synthetic"  # name of a suite of prompts, or a file; synthetic draws scenes
    n: int = 32  # prompts of each category in each language, evenly spaced; 0: all of them
    categories: tuple[str, ...] = ()  # categories of the suite; empty: all of them
    languages: tuple[str, ...] = ()  # languages of the suite; empty: all of them
    seed: int = 0  # seed of the pictures
    split: Literal["valid", "test"] | None = None  # synthetic's scenes, which training never draws
    ranker: str = ""  # workdir of the ranker that judges the pictures; synthetic needs none
    # who translated the Chinese captions of a suite whose file does not say it
    translation: str = ""

    def __post_init__(self) -> None:
        for language in self.languages:
            require(
                language in LANGUAGES,
                "evals.prompts.languages",
                language,
                f"known languages are {', '.join(LANGUAGES)}",
            )
        translated = self.suite in SUITES and SUITES[self.suite].translated
        require(
            translated or not self.translation,
            "evals.prompts.translation",
            self.translation,
            f"the suite {self.suite} is not translated; leave it out",
        )
        if self.exact:
            require(
                self.n >= 1,
                "evals.prompts.n",
                self.n,
                "must be at least 1: the suite synthetic has endlessly many prompts",
            )
            require(
                not self.ranker,
                "evals.prompts.ranker",
                self.ranker,
                "the suite synthetic is scored exactly, without a ranker; leave it out",
            )
            for name in self.categories:
                require(
                    name in CATEGORIES,
                    "evals.prompts.categories",
                    name,
                    f"the suite synthetic has {', '.join(CATEGORIES)}",
                )
        else:
            remedy = (
                "would not be scored: give evals.prompts.ranker, a ranker's workdir, or the suite"
                " 'synthetic'"
            )
            require(bool(self.ranker), "evals.prompts.suite", self.suite, remedy)
            require(
                self.split is None,
                "evals.prompts.split",
                self.split,
                "only the suite 'synthetic' has splits; leave it out",
            )

    @property
    def exact(self) -> bool:
        """Whether pictures are scored by reading the scene from their pixels."""
        return self.suite in SUITES and SUITES[self.suite].generate is not None

    @property
    def base_seed(self) -> int:
        """The field `seed`."""
        return self.seed

    def __call__(self, model: EvaluatedModel) -> dict[str, Any]:
        return summarize([dataclasses.replace(row, image=None) for row in self.judged(model)])

    def measured(self, model: EvaluatedModel) -> tuple[dict[str, Any], list[Scored]]:
        """The table, and every picture with its score; each category is a cell."""
        rows = list(self.judged(model))
        suite = Path(self.suite).stem
        scored = [
            Scored(
                f"{suite}, {r.category}", r.prompt, r.language, r.score, r.image, about={"id": r.id}
            )
            for r in rows
        ]
        return summarize(rows), scored

    def fewer(self, n: int) -> "Prompts":
        """n prompts of all categories together in each language, or one of each category if that is
        more."""
        each = max(1, n // len(CATEGORIES))
        return dataclasses.replace(self, n=each if self.n == 0 else min(self.n, each))

    def judged(self, model: EvaluatedModel) -> Iterable[Judged]:
        """Every prompt with its score."""
        return self._read(model) if self.exact else self._ranked(model)

    def _read(self, model: EvaluatedModel) -> list[Judged]:
        source = model.experiment.data.train
        if not isinstance(source, Synthetic):
            raise UserError(
                f"evals.prompts.suite='synthetic': the run reads {type(source).__name__} data; give"
                " another suite and a ranker"
            )
        have = drawable(source)
        for name in self.categories:
            require(
                name in have,
                "evals.prompts.categories",
                name,
                f"the run's data has no such scenes, only {', '.join(have)}",
            )
        languages = self.languages or source.languages
        scenes = [
            (c, i, s)
            for c in self.categories or have
            for i, s in enumerate(
                draw_scenes(source, c, self.n, self.split or "valid", source.seed)
            )
        ]
        rows = [(c, i, s, g) for c, i, s in scenes for g in languages]
        prompts = [Prompt(wording(s, g, i), g) for _, i, s, g in rows]
        images = self._sampled(model, prompts)
        out = []
        for row, prompt, image in zip(rows, prompts, images, strict=True):
            category, i, scene, language = row
            reading = read(image)
            parts = judge_skills(reading, scene)
            score = parts[CATEGORIES[category].skill]
            out.append(
                Judged(
                    id=f"{category}/{i}",
                    category=category,
                    category_en="",
                    language=language,
                    score=None if score is None else bool(score),
                    prompt=prompt.text,
                    image=image,
                    parts=parts | {"readable": not reading.reason},
                )
            )
        return out

    def _ranked(self, model: EvaluatedModel) -> Iterator[Judged]:
        prompts = self.prompts()
        judge = cast(EvaluatedRanker, model).ranking(self.ranker, {p.language for p in prompts})
        for start in range(0, len(prompts), PICTURES_AT_ONCE):
            chunk = prompts[start : start + PICTURES_AT_ONCE]
            pictures = self._sampled(model, chunk)
            images = judge.embed_images(np.stack(pictures))
            texts = judge.embed_texts([p.text for p in chunk], [p.language for p in chunk])
            cosines = np.sum(np.asarray(images, np.float64) * np.asarray(texts, np.float64), -1)
            for p, c, picture in zip(chunk, cosines, pictures, strict=True):
                yield Judged(
                    id=p.extra["id"],
                    category=p.extra.get("category", "none"),
                    category_en=p.extra.get("category_en", ""),
                    language=p.language,
                    score=float(c),
                    prompt=p.text,
                    image=picture,
                )

    def prompts(self) -> list[Prompt]:
        """The prompts of a suite that has files.

        Errors: UserError for a file that does not exist.
        """
        candidates = of_categories(
            read_suite(self.suite, languages=self.languages, translation=self.translation),
            self.categories,
        )
        ids_of: dict[str, dict[str, None]] = {}  # category -> its ids, in the order of the file
        for p in candidates:
            ids_of.setdefault(p.extra.get("category", ""), {})[p.extra["id"]] = None
        chosen = {x for ids in ids_of.values() for x in evenly(list(ids), self.n)}
        return [p for p in candidates if p.extra["id"] in chosen]

    def _sampled(self, model: EvaluatedModel, prompts: Sequence[Prompt]) -> list[np.ndarray]:
        controls = self.controls(model.experiment.model)
        samples = model.sample(
            [p.text for p in prompts], controls, self.seed, [p.language for p in prompts]
        )
        return [s.image for s in samples]

    def protocol(self) -> dict[str, Any]:
        """The settings that determine the numbers besides the model. A sampling option that is None
        has the generator's default."""
        settings = self.settings() | {
            "samples_per_prompt": 1,
            "reranking": "none",
            "between_languages": "zh minus en, pair by pair",
        }
        if self.exact:
            skills = {name: category.skill for name, category in CATEGORIES.items()}
            return settings | {
                "split": self.split or "valid",
                "score": "read from pixels, exact; a category's is its skill's",
                "skills": skills,
            }
        prompts = self.prompts()
        translators = sorted({p.extra["translation"] for p in prompts if "translation" in p.extra})
        published = {"published": SUITES[self.suite].prompts} if self.suite in SUITES else {}
        scored_by_ranker = {
            "score": "cosine of the ranker's features of picture and prompt, mean",
            "prompts": {g: sum(p.language == g for p in prompts) for g in LANGUAGES},
            "files_sha256": digest(self.suite),
            "translation": ", ".join(translators),
        }
        return settings | published | scored_by_ranker


def evenly(items: Sequence[Item], n: int) -> list[Item]:
    """n of the items, evenly spaced; all items where there are at most n, or n is 0."""
    if n == 0 or n >= len(items):
        return list(items)
    return [items[i * len(items) // n] for i in range(n)]


def figures(values: Sequence[float | bool | None], prefix: str = "score") -> dict[str, Any]:
    """The mean of the values that are not None, their count, and the 95 % interval: Wilson's for
    shares, Student's t for other numbers."""
    known = [v for v in values if v is not None]
    if not known:
        return {prefix: None, "n": 0, f"{prefix}_ci95": None}
    mean = float(np.mean(known))
    if all(isinstance(v, bool) for v in known):
        limits = list(interval(mean, len(known)))
    else:
        limits = t_interval([float(v) for v in known])
    return {prefix: mean, "n": len(known), f"{prefix}_ci95": limits}


def summarize(rows: Sequence[Judged]) -> dict[str, object]:
    """The scores of all prompts, by category (each also by language) and by language, and the
    difference of the languages on the prompts that both have."""
    categories, languages = (
        list(dict.fromkeys(getattr(r, name) for r in rows)) for name in ("category", "language")
    )
    by_category = {}
    for category in categories:
        members = [r for r in rows if r.category == category]
        english = {"category_en": members[0].category_en} if members[0].category_en else {}
        scores = {g: figures([r.score for r in members if r.language == g]) for g in languages}
        by_category[category] = (
            english
            | figures([r.score for r in members])
            | {"by_language": scores}
            | between(members)
        )
    by_language = {g: group([r for r in rows if r.language == g]) for g in languages}
    return {
        "all": group(rows) | between(rows),
        "by_category": by_category,
        "by_language": by_language,
    }


def group(rows: Sequence[Judged]) -> dict[str, Any]:
    """The scores and, for scenes, the score of each skill over all pictures whose prompt asks for
    it."""
    parts = {
        name: figures([r.parts[name] for r in rows])
        for name in (*SKILLS, "everything", "readable")
        if rows[0].parts
    }
    return figures([r.score for r in rows]) | ({"skills": parts} if parts else {})


def between(rows: Sequence[Judged]) -> dict[str, object]:
    """zh minus en on the prompts that both languages have: the mean difference over the pairs and
    its interval (None where all differences are equal)."""
    zh, en = (
        {r.id: float(r.score) for r in rows if r.language == g and r.score is not None}
        for g in ("zh", "en")
    )
    pairs = [zh[k] - en[k] for k in zh if k in en]
    if not pairs:
        return {}
    limits = t_interval(pairs) if len(set(pairs)) > 1 else None
    return {
        "zh_minus_en": {"score": float(np.mean(pairs)), "pairs": len(pairs), "score_ci95": limits}
    }
