"""Scenes at random: which attributes, where, on what background, and which colour-shape pairs are
kept back.

Separate from `scene` because everything else needs scenes and only the data source draws them.
"""

import math
import random
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from vilg.config import require
from vilg.data.scenes.scene import (
    COLOURS,
    GAP,
    SHAPES,
    SIZES,
    Background,
    Object,
    Scene,
    relation_between,
)

STYLES = ("plain", "gradient", "stripes", "checker", "dots")
SUBPIXELS = 8  # free centres are multiples of 1/8 pixel, so that rendered shapes can be cached
SPLITS = {
    "train": range(2, 20),
    "valid": range(1, 2),
    "test": range(1),
}  # of 20 buckets of scenes, by content


@dataclass(frozen=True)
class SceneConfig:
    """What to draw scenes from. `weights` are the shares of min_objects..max_objects objects
    (empty: equal); `groups` the share of several-object scenes whose objects are alike; `snap` the
    grid of centres in pixels (0: anywhere); `withheld` the share of colour-shape pairs kept back;
    `pairs` "seen" (none of those), "held_out" (at least one object's) or "all"."""

    image_size: int = 32
    min_objects: int = 1
    max_objects: int = 3
    weights: tuple[float, ...] = ()
    groups: float = 0.25
    snap: int = 0
    backgrounds: tuple[str, ...] = STYLES
    withheld: float = 0.1
    pairs: Literal["seen", "held_out", "all"] = "seen"

    def __post_init__(self):
        require(
            self.image_size >= 32, "image_size", self.image_size, "scenes need at least 32 pixels"
        )
        require(1 <= self.min_objects <= 3, "min_objects", self.min_objects, "must be 1, 2 or 3")
        require(
            self.min_objects <= self.max_objects <= 3,
            "max_objects",
            self.max_objects,
            f"must be from min_objects={self.min_objects} to 3",
        )
        kinds = self.max_objects - self.min_objects + 1
        require(
            not self.weights
            or (len(self.weights) == kinds and min(self.weights) >= 0 and sum(self.weights) > 0),
            "weights",
            self.weights,
            f"give {kinds} shares that are not negative, one for each number of objects, or none",
        )
        require(0 <= self.groups <= 1, "groups", self.groups, "must be a share from 0 to 1")
        require(
            0 <= self.snap <= self.image_size // 4,
            "snap",
            self.snap,
            f"must be 0 or up to {self.image_size // 4} pixels",
        )
        lone = self.max_objects == 1 or _span(self.image_size, self.snap, "large")[1] > _apart(
            self.image_size, self.snap, "large", "large"
        )
        require(
            lone,
            "snap",
            self.snap,
            f"two large objects must fit side by side on the grid; {self.image_size // 8} does it",
        )
        known = bool(self.backgrounds) and all(style in STYLES for style in self.backgrounds)
        require(known, "backgrounds", self.backgrounds, f"name one or more of {', '.join(STYLES)}")
        require(
            0 <= self.withheld <= 0.8, "withheld", self.withheld, "must be a share from 0 to 0.8"
        )
        require(
            self.pairs in ("seen", "held_out", "all"),
            "pairs",
            self.pairs,
            "must be 'seen', 'held_out' or 'all'",
        )
        require(
            self.pairs != "held_out" or len(withheld_pairs(self.withheld)) > 0,
            "withheld",
            self.withheld,
            "must be above 0 where pairs='held_out'",
        )


@lru_cache
def withheld_pairs(share: float) -> frozenset[tuple[str, str]]:
    """The (colour, shape) pairs kept back: the same on every machine, nested as the share grows,
    every colour and shape still seen.
    """
    order = random.Random(20)
    colours, shapes = list(COLOURS), list(SHAPES)
    order.shuffle(colours)
    order.shuffle(shapes)
    count = round(share * len(colours) * len(shapes))
    # A diagonal of the table, then the next: 8 and 6 meet again after 24 pairs, so that each colour
    # and shape loses its even share.
    return frozenset((colours[i % 8], shapes[(i + i // 24) % 6]) for i in range(count))


@lru_cache
def _choices(share: float) -> dict[str, list[tuple[str, str]]]:
    every = [(c, s) for c in COLOURS for s in SHAPES]
    kept = withheld_pairs(share)
    return {
        "all": every,
        "seen": [p for p in every if p not in kept],
        "held_out": [p for p in every if p in kept],
    }


def sample_scene(rng: random.Random, config: SceneConfig, split: str = "train") -> Scene:
    """One scene of a split. Splits never share a scene: each holds the scenes whose contents hash
    into its buckets.
    """
    while True:
        count = rng.choices(
            range(config.min_objects, config.max_objects + 1), config.weights or None
        )[0]
        scene = _layout(rng, config, count, group=count > 1 and rng.random() < config.groups)
        if scene is not None and in_split(scene, split):
            return Scene(
                scene.objects,
                scene.relation,
                sample_background(rng, rng.choice(config.backgrounds)),
            )


def in_split(scene: Scene, split: str) -> bool:
    """Whether a scene, without its background, belongs to the split."""
    return zlib.crc32(repr(scene).encode()) % 20 in SPLITS[split]


def _layout(rng: random.Random, config: SceneConfig, count: int, group: bool) -> Scene | None:
    """Objects with places, or None where three of these sizes find none soon: large ones are rarer
    among three.
    """
    choices = _choices(config.withheld)
    if group:
        looks = [rng.choice(choices[config.pairs])] * count
        sizes = [rng.choice(list(SIZES))] * count
    else:
        looks = rng.sample(choices["all" if config.pairs == "held_out" else config.pairs], count)
        if config.pairs == "held_out" and not any(
            p in withheld_pairs(config.withheld) for p in looks
        ):
            looks[rng.randrange(count)] = rng.choice(choices["held_out"])
        sizes = [rng.choice(list(SIZES)) for _ in range(count)]
    return arrange(rng, config, looks, sizes, group)


def arrange(
    rng: random.Random,
    config: SceneConfig,
    looks: list[tuple[str, str]],
    sizes: list[str],
    group: bool,
) -> Scene | None:
    """Objects of these (colour, shape) pairs and sizes at places, plain behind; None where none is
    found soon.
    """
    step = (config.snap or 1 / SUBPIXELS) / config.image_size
    for _ in range(20):
        places = _places(rng, config.image_size, config.snap, sizes)
        if places is None:
            continue
        objects = tuple(
            Object(shape, colour, size, x * step, y * step)
            for (colour, shape), size, (x, y) in zip(looks, sizes, places, strict=True)
        )
        if group or len(objects) == 1:
            return Scene(objects)
        relation = relation_between(objects[0], objects[1])
        if relation:
            return Scene(objects, relation)
    return None


def _places(
    rng: random.Random, pixels: int, snap: int, sizes: list[str]
) -> list[tuple[int, int]] | None:
    """Centres in grid steps, far enough apart: two of any size always, a third where one is found
    soon.
    """
    first = _anywhere(rng, _span(pixels, snap, sizes[0]))
    if len(sizes) == 1:
        return [first]
    # Along one axis the two are far enough apart by construction (two large ones almost never would
    # be by chance).
    second, apart = (
        _anywhere(rng, _span(pixels, snap, sizes[1])),
        _apart(pixels, snap, sizes[0], sizes[1]),
    )
    order = (0, 1) if rng.random() < 0.5 else (1, 0)
    (low, _), (other_low, n) = (_span(pixels, snap, sizes[i]) for i in order)
    slack = other_low + n - 1 - low - apart
    before, after = int(rng.random() * (slack + 1)), int(rng.random() * (slack + 1))
    if before + after > slack:
        before, after = slack - before, slack - after
    along = {order[0]: low + before, order[1]: other_low + n - 1 - after}
    if rng.random() < 0.5:
        places = [(along[0], first[1]), (along[1], second[1])]
    else:
        places = [(first[0], along[0]), (second[0], along[1])]
    if len(sizes) == 2:
        return places
    needed = [_apart(pixels, snap, size, sizes[2]) for size in sizes[:2]]
    for _ in range(20):
        x, y = _anywhere(rng, _span(pixels, snap, sizes[2]))
        if all(
            max(abs(x - px), abs(y - py)) >= apart
            for (px, py), apart in zip(places, needed, strict=True)
        ):
            return [*places, (x, y)]
    return None


def _anywhere(rng: random.Random, span: tuple[int, int]) -> tuple[int, int]:
    low, n = span
    return low + int(rng.random() * n), low + int(rng.random() * n)


@lru_cache
def _span(pixels: int, snap: int, size: str) -> tuple[int, int]:
    """The first coordinate, in grid steps, that keeps an object inside the image (when free, half a
    pixel off its border), and how many.
    """
    step = snap or 1 / SUBPIXELS
    half = SIZES[size] * pixels / 2 + (0 if snap else 0.5)
    low, high = math.ceil(half / step), math.floor((pixels - half) / step)
    return low, high - low + 1


@lru_cache
def _apart(pixels: int, snap: int, a: str, b: str) -> int:
    """How many grid steps apart two centres must be to leave GAP between the objects."""
    return math.ceil(((SIZES[a] + SIZES[b]) / 2 + GAP) * pixels / (snap or 1 / SUBPIXELS) - 1e-6)


def sample_background(rng: random.Random, style: str) -> Background:
    """A background of the style. "plain" is one fixed grey, so that a tokenizer sees a single
    background patch.
    """
    if style == "plain":
        return Background()
    light, dark = rng.uniform(0.75, 0.97), rng.uniform(0.45, 0.7)
    return Background(
        style,
        round(light, 3),
        round(dark, 3),
        round(rng.uniform(0, math.pi), 3),
        rng.uniform(0.15, 0.4),
        rng.random(),
    )
