"""Cards of the report page: each shows a scene, what every generator drew or said for it, and what
is wrong with that."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from vilg.data.scenes.captions import LANGUAGES, describe, parse
from vilg.data.scenes.scene import Scene
from vilg.report.templates import data_uri

# Cells of prompts and their labels on the page.
CELLS = {
    "single_object": "One object, seen pairs",
    "two_objects": "Two objects, seen pairs",
    "held_out_single": "One object, held-out pair",
    "held_out_two": "Two objects, held-out pairs",
}


@runtime_checkable
class Trial(Protocol):
    """The part of an evals.scenes.Trial that the page reads; this package must not import it."""

    @property
    def cell(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def scene(self) -> Scene: ...
    @property
    def language(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def image(self) -> np.ndarray: ...
    @property
    def right(self) -> bool: ...
    @property
    def parts(self) -> Mapping[str, bool]: ...


@dataclass(frozen=True)
class GeneratorView:
    """A generator's column on the page.

    Without trials of captions the page shows it as a generator that cannot caption."""

    name: str  # its key in report["scores"]
    trials: Sequence[Trial]


@dataclass(frozen=True)
class Card:
    """The trials of one scene and language: the first of them, and one for each generator (None
    where it has none).
    """

    trial: Trial
    trials: list[Trial | None]

    @property
    def any_wrong(self) -> bool:
        """Whether the trial of some generator is wrong."""
        return any(trial is not None and not trial.right for trial in self.trials)


def cell_cards(
    generators: Sequence[GeneratorView], kind: str, shown: int, failures: int
) -> list[dict[str, object]]:
    """For every cell of prompts its label, its counts and its cards: the `shown` first, and then at
    most `failures` others that are wrong.
    """
    out = []
    for cell, cards in matched(generators, kind).items():
        wrong = [card for card in cards[shown:] if card.any_wrong]
        right = [
            sum(1 for card in cards if (trial := card.trials[i]) is not None and trial.right)
            for i in range(len(generators))
        ]
        out.append(
            {
                "label": CELLS.get(cell, cell),
                "total": len(cards),
                "right": [(g.name, n) for g, n in zip(generators, right, strict=True)],
                "first": [rendered(card, generators) for card in cards[:shown]],
                "wrong": [rendered(card, generators) for card in wrong[:failures]],
            }
        )
    return out


def matched(generators: Sequence[GeneratorView], kind: str) -> dict[str, list[Card]]:
    """Cell -> its cards. The trials of two generators share a card where they have the same
    language, scene and, for samples, prompt.
    """
    cells: dict[str, dict[Hashable, Card]] = {}
    for column, generator in enumerate(generators):
        repeats: Counter[Hashable] = Counter()
        for trial in generator.trials:
            if trial.kind != kind:
                continue
            question = (trial.language, trial.scene, trial.prompt if kind == "sample" else "")
            repeats[trial.cell, question] += 1  # the same prompt drawn twice is two cards
            key = (question, repeats[trial.cell, question])
            cards = cells.setdefault(trial.cell, {})
            card = cards.setdefault(key, Card(trial, [None] * len(generators)))
            card.trials[column] = trial
    return {cell: list(cards.values()) for cell, cards in cells.items()}


def rendered(card: Card, generators: Sequence[GeneratorView]) -> dict[str, object]:
    """A card as the template reads it."""
    trial = card.trial
    answers: list[dict[str, object]] = []
    for generator, answer in zip(generators, card.trials, strict=True):
        if answer is None:
            answers.append({"name": generator.name, "missing": True})
            continue
        answers.append(
            {
                "name": generator.name,
                "missing": False,
                "image": data_uri(answer.image),
                "text": answer.prompt,
                "right": answer.right,
                "fault": fault(answer),
            }
        )
    return {
        "language": trial.language,
        "prompt": trial.prompt,
        "others": [(g, describe(trial.scene, g).text) for g in LANGUAGES if g != trial.language],
        "truth": describe(trial.scene, trial.language).text,
        "image": data_uri(trial.image),
        "answers": answers,
    }


def fault(trial: Trial) -> str:
    """The fault of a trial in words; "" for none."""
    if trial.kind == "sample":
        return sample_fault(trial.parts, trial.right)
    return "" if trial.right else caption_fault(trial.prompt, trial.scene, trial.language)


def sample_fault(parts: Mapping[str, bool], right: bool) -> str:
    """The parts of the prompt that a sample does not show.

    A right sample may have some too: its cell may not ask for every part (the size)."""
    if parts.get("readable") is False:
        return "cannot be read"
    simple = ("count", "colour", "shape", "size", "relation")
    faults = [part for part in simple if parts.get(part) is False]
    if not faults and not right:
        return "mixed up between objects" if parts else ""
    if "count" in faults:
        return "number of objects"
    if parts.get("colour_and_shape") is False and not {"colour", "shape"} & set(faults):
        faults.insert(0, "colours swapped")
    return ", ".join(faults)


def caption_fault(text: str, scene: Scene, language: str) -> str:
    """The parts that a wrong caption gets wrong, in words."""
    parsed = parse(text)
    if parsed is None:
        return "cannot be parsed"
    if parsed.language != language:
        return "other language"
    if parsed.count != len(scene.objects):
        return "number of objects"
    true = [o.attributes for o in (scene.objects[:1] if scene.group else scene.objects)]
    columns = zip(
        ("size", "colour", "shape"),
        zip(*true, strict=True),
        zip(*parsed.objects, strict=True),
        strict=True,
    )
    faults = [name for name, shown, stated in columns if Counter(shown) != Counter(stated)]
    if faults:
        return ", ".join(faults)
    return "relation" if Counter(true) == Counter(parsed.objects) else "mixed up between objects"
