"""A study of human evaluation on disk: STUDY/public (all that a rater may see) and STUDY/study.json
(who made what).

Separate from asking (judge_server.py), votes (judge_votes.py) and their numbers
(vilg/metrics/ratings.py). Names in public/ are hashes that need study.json to be undone; pictures
are written anew from their pixels, so that no metadata comes along. The same inputs, seed and
protocol give the same study."""

import dataclasses
import hashlib
import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from PIL import Image

from vilg.data.records import BadRecord, decode_image
from vilg.metrics.ratings import RatedItem
from vilg.report.judge import judge_page
from vilg.report.protocols import PROTOCOLS, Protocol
from vilg.run.judge.inputs import Output, Outputs
from vilg.types import UserError

SMALL = 128  # pixels; where no picture is larger they are shown as squares
SAME_TIME = 1_000_000_000  # of all pictures: when they were written would tell them apart


@dataclass(frozen=True)
class Item:
    """One task. `models` are in the order in which `pictures` are shown; `prompt` is what intervals
    are over.
    """

    id: str
    models: tuple[str, ...]
    pictures: tuple[str, ...]
    texts: dict[str, str]
    language: str
    prompt: str
    category: str

    def public(self) -> dict[str, Any]:
        """What a rater may know."""
        return {
            "id": self.id,
            "pictures": self.pictures,
            "texts": self.texts,
            "language": self.language,
        }


@dataclass(frozen=True)
class Study:
    """`id` is what votes name; `fingerprint` is of all that the study was made from."""

    id: str
    fingerprint: str
    protocol: str
    seed: int
    raters: int
    models: tuple[str, ...]
    left_out: int
    items: tuple[Item, ...]

    @property
    def asks(self) -> Protocol:
        """Its protocol's entry."""
        return PROTOCOLS[self.protocol]

    def shown(self) -> dict[str, RatedItem]:
        """What vilg/metrics needs to know of each item."""
        return {item.id: RatedItem(item.models, item.prompt) for item in self.items}


def fingerprint(models: Mapping[str, Outputs], protocol: str, seed: int) -> str:
    """A hash of the models' names, texts and pictures, the protocol and the seed; not of the
    models' order.
    """
    digest = hashlib.sha256(json.dumps([protocol, seed]).encode())
    for name, outputs in sorted(models.items()):
        for key, output in outputs.items():
            picture = hashlib.sha256(output.picture.read_bytes()).hexdigest()
            digest.update(
                json.dumps(
                    [name, key, output.texts, output.language, output.category, picture]
                ).encode()
            )
    return digest.hexdigest()


def plan_items(
    models: Mapping[str, Outputs], pairs: bool, seed: int, secret: str
) -> tuple[list[Item], dict[str, Output]]:
    """The items in random order, and the picture of each file name. Of each pair of models either
    is on the left in half of the items (one more, for an odd number)."""
    draw = random.Random(f"{seed}:{secret}")
    pictures: dict[str, Output] = {}
    groups: list[tuple[tuple[str, ...], tuple[str, ...]]] = []  # models as shown, key
    keys = list(next(iter(models.values())))
    if pairs:
        for pair in combinations(sorted(models), 2):
            turned = [i % 2 == 1 for i in range(len(keys))]
            draw.shuffle(turned)
            swap = draw.random() < 0.5  # which of the two has the one more
            groups += [
                (pair[::-1] if t != swap else pair, key)
                for t, key in zip(turned, keys, strict=True)
            ]
    else:
        groups = [((name,), key) for name in sorted(models) for key in keys]
    draw.shuffle(groups)
    items = []
    for shown, key in groups:
        files = []
        for name in shown:
            files.append(f"items/{hidden(secret, 'picture', name, *key)}.png")
            pictures[files[-1]] = models[name][key]
        output = models[shown[0]][key]
        id = hidden(secret, "item", *sorted(shown), *key)
        items.append(
            Item(
                id,
                shown,
                tuple(files),
                output.texts,
                output.language,
                output.prompt,
                output.category,
            )
        )
    return items, pictures


def hidden(secret: str, *parts: str) -> str:
    """A name that tells nothing to who lacks the secret."""
    return hashlib.sha256(json.dumps([secret, *parts]).encode()).hexdigest()[:32]


def make_study(
    out: Path, models: Mapping[str, Outputs], protocol: str, seed: int, raters: int, left_out: int
) -> Study:
    """Writes OUT/public and OUT/study.json. Errors: UserError for a picture that is none, or a
    public/ that is not ours to replace.
    """
    if (out / "public").exists():
        raise UserError(
            f"out={str(out)!r}: holds a public/ without a study.json; give an empty directory"
        )
    asks = PROTOCOLS[protocol]
    secret = fingerprint(models, protocol, seed)
    items, pictures = plan_items(models, asks.pairs, seed, secret)
    study = Study(
        hidden(secret, "study"),
        secret,
        protocol,
        seed,
        raters,
        tuple(models),
        left_out,
        tuple(items),
    )
    part = out / "public.part"
    shutil.rmtree(part, ignore_errors=True)
    (part / "items").mkdir(parents=True)
    largest = 0
    for file in sorted(pictures):
        largest = max(largest, *rewrite(pictures[file].picture, part / file))
    page = judge_page(study.id, asks, [item.public() for item in items], pixelated=largest <= SMALL)
    (part / "index.html").write_text(page, encoding="utf-8")
    part.rename(out / "public")
    write_study(out, study)
    return study


def rewrite(picture: Path, to: Path) -> tuple[int, int]:
    """A PNG of the pixels and nothing else; its width and height."""
    try:
        pixels = decode_image(str(picture), picture.read_bytes())
    except BadRecord as error:
        raise UserError(
            f"samples: {str(picture)!r} is no picture ({error.reason}); make it anew"
        ) from None
    image = Image.fromarray(pixels)
    image.save(to)
    os.utime(to, (SAME_TIME, SAME_TIME))
    return image.size


def write_study(out: Path, study: Study) -> None:
    """study.json, whole or not at all."""
    temporary = out / "study.json.tmp"
    temporary.write_text(
        json.dumps(dataclasses.asdict(study), ensure_ascii=False, indent=1), encoding="utf-8"
    )
    temporary.replace(out / "study.json")


def read_study(out: Path) -> Study | None:
    """The study of a directory; None if there is none. Errors: UserError for a study.json that is
    not one.
    """
    path = out / "study.json"
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        items = tuple(
            Item(**item | {"models": tuple(item["models"]), "pictures": tuple(item["pictures"])})
            for item in fields["items"]
        )
        study = Study(**fields | {"models": tuple(fields["models"]), "items": items})
        PROTOCOLS[study.protocol]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"out={str(out)!r}: its study.json is not a study ({error}); give another directory"
        ) from None
    return study
