"""A study of human evaluation on disk: STUDY/public holds all that a rater may see,
STUDY/study.json says which model made what.

Separate from asking (server.py), votes (votes.py) and their numbers (vilg/metrics/ratings.py).
Names of files in public/ are hashes that only study.json can undo, and pictures are written anew
from their pixels, so that no metadata tell who made them. The same inputs, seed and protocol give
the same study."""

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

from PIL import Image

from vilg.data.records import BadRecord, decode_image
from vilg.metrics.ratings import RatedItem
from vilg.report.judge import judge_page
from vilg.report.protocols import PROTOCOLS, Protocol
from vilg.run.judge.inputs import Key, Output, Outputs
from vilg.types import UserError

SMALL = 128  # pixels; if no picture is larger, the page shows pixels as squares
SAME_TIME = 1_000_000_000  # of every picture's file: the time of writing would tell models apart


@dataclass(frozen=True)
class Item:
    """One task of a rater. `models` are in the order in which `pictures` are shown; intervals are
    over prompts, which `prompt` names.
    """

    id: str
    models: tuple[str, ...]
    pictures: tuple[str, ...]
    texts: dict[str, str]
    language: str
    prompt: str
    category: str

    def public(self) -> dict[str, object]:
        """The fields that a rater may know."""
        return {
            "id": self.id,
            "pictures": self.pictures,
            "texts": self.texts,
            "language": self.language,
        }


@dataclass(frozen=True)
class Study:
    """A study. Votes name its `id`; `fingerprint` is a hash of the inputs from which it was made;
    `left_out` counts prompts that not all models have.
    """

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
        """The protocol's entry in PROTOCOLS."""
        return PROTOCOLS[self.protocol]

    def shown(self) -> dict[str, RatedItem]:
        """The items as vilg/metrics needs them, by id."""
        return {item.id: RatedItem(item.models, item.prompt) for item in self.items}


def fingerprint(models: Mapping[str, Outputs], protocol: str, seed: int) -> str:
    """A hash of the models' names, texts and pictures, of the protocol and of the seed; it does not
    depend on the order of the models.
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
    """The items in random order, and {file name of a picture: output}.

    For each pair of models, either is on the left in half of the items (for an odd number of items,
    in one more)."""
    rng = random.Random(f"{seed}:{secret}")
    pictures: dict[str, Output] = {}
    groups: list[tuple[tuple[str, ...], Key]] = []  # (models in the order of the screen, key)
    keys = list(next(iter(models.values())))
    if pairs:
        for pair in combinations(sorted(models), 2):
            turned = [i % 2 == 1 for i in range(len(keys))]
            rng.shuffle(turned)
            swap = rng.random() < 0.5  # which of the two is on the left once more
            groups += [
                (pair[::-1] if t != swap else pair, key)
                for t, key in zip(turned, keys, strict=True)
            ]
    else:
        groups = [((name,), key) for name in sorted(models) for key in keys]
    rng.shuffle(groups)
    items = []
    for shown, key in groups:
        files = []
        for name in shown:
            files.append(f"items/{hidden(secret, 'picture', name, *key)}.png")
            pictures[files[-1]] = models[name][key]
        output = models[shown[0]][key]
        items.append(
            Item(
                id=hidden(secret, "item", *sorted(shown), *key),
                models=shown,
                pictures=tuple(files),
                texts=output.texts,
                language=output.language,
                prompt=output.prompt,
                category=output.category,
            )
        )
    return items, pictures


def hidden(secret: str, *parts: str) -> str:
    """A name that tells nothing to a person who lacks the secret."""
    return hashlib.sha256(json.dumps([secret, *parts]).encode()).hexdigest()[:32]


def make_study(
    out: Path, models: Mapping[str, Outputs], protocol: str, seed: int, raters: int, left_out: int
) -> Study:
    """Writes OUT/public and OUT/study.json; the study. Errors: UserError for a file that is no
    picture, or for a public/ that no study.json belongs to.
    """
    if (out / "public").exists():
        raise UserError(
            f"out={str(out)!r}: holds a public/ without a study.json; give an empty directory"
        )
    asks = PROTOCOLS[protocol]
    secret = fingerprint(models, protocol, seed)
    items, pictures = plan_items(models, asks.pairs, seed, secret)
    study = Study(
        id=hidden(secret, "study"),
        fingerprint=secret,
        protocol=protocol,
        seed=seed,
        raters=raters,
        models=tuple(models),
        left_out=left_out,
        items=tuple(items),
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
    """Writes a PNG of the pixels alone; its width and height."""
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
    """Writes study.json in one step, so that it is never half written."""
    temporary = out / "study.json.tmp"
    temporary.write_text(
        json.dumps(dataclasses.asdict(study), ensure_ascii=False, indent=1), encoding="utf-8"
    )
    temporary.replace(out / "study.json")


def read_study(out: Path) -> Study | None:
    """The study of a directory, None if the directory has none. Errors: UserError for a study.json
    that cannot be read as one.
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
