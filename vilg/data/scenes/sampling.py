"""Random scenes: their attributes, places and backgrounds, and the colour-shape pairs that training
withholds."""

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
# centres without a grid are multiples of 1/8 pixel, so that rendered shapes can be cached
SUBPIXELS = 8
# the scenes of a split, as buckets of a hash of their content, modulo 20
SPLITS = {"train": range(2, 20), "valid": range(1, 2), "test": range(1)}
Split = Literal["train", "valid", "test"]
Pairs = Literal["seen", "held_out", "all"]


@dataclass(frozen=True)
class SceneConfig:
    """The distribution of scenes."""

    image_size: int = 32  # rows and columns of a picture in pixels
    min_objects: int = 1  # objects of a scene at least
    max_objects: int = 3  # objects of a scene at most
    # shares of scenes of min_objects, ..., max_objects objects; empty: equal shares
    weights: tuple[float, ...] = ()
    groups: float = 0.25  # share of groups (equal objects) among scenes of several objects
    snap: int = 0  # pixels between the points of the grid of centres; 0: centres lie anywhere
    backgrounds: tuple[str, ...] = STYLES  # kinds of background, drawn equally often
    withheld: float = 0.1  # share of colour-shape pairs that training never sees
    # objects have no withheld pair ("seen"), at least one object has one ("held_out"), or "all"
    pairs: Pairs = "seen"

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
        _, points = _centres(self.image_size, self.snap, "large")
        apart = _steps_apart(self.image_size, self.snap, "large", "large")
        require(
            self.max_objects == 1 or points > apart,
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
    """The (colour, shape) pairs that training never sees.

    They are the same on every machine, a larger share contains a smaller one, and every colour and
    every shape is still seen in other pairs."""
    order = random.Random(20)
    colours, shapes = list(COLOURS), list(SHAPES)
    order.shuffle(colours)
    order.shuffle(shapes)
    count = round(share * len(colours) * len(shapes))
    # Pairs lie on diagonals of the table of 8 colours and 6 shapes. A diagonal closes after 24
    # pairs and the next one follows, so that each colour and each shape loses an equal share.
    return frozenset((colours[i % 8], shapes[(i + i // 24) % 6]) for i in range(count))


@lru_cache
def _pairs_by_name(share: float) -> dict[str, list[tuple[str, str]]]:
    """The (colour, shape) pairs that each value of `pairs` names."""
    every = [(c, s) for c in COLOURS for s in SHAPES]
    withheld = withheld_pairs(share)
    return {
        "all": every,
        "seen": [p for p in every if p not in withheld],
        "held_out": [p for p in every if p in withheld],
    }


def sample_scene(rng: random.Random, config: SceneConfig, split: str = "train") -> Scene:
    """One scene of a split. Splits never share a scene: a hash of a scene's content says to which
    split it belongs.
    """
    while True:
        count = rng.choices(
            range(config.min_objects, config.max_objects + 1), config.weights or None
        )[0]
        group = count > 1 and rng.random() < config.groups
        scene = _sample_objects(rng, config, count, group)
        if scene is not None and in_split(scene, split):
            return Scene(
                scene.objects,
                scene.relation,
                sample_background(rng, rng.choice(config.backgrounds)),
            )


def in_split(scene: Scene, split: str) -> bool:
    """Whether a scene, regardless of its background, belongs to the split."""
    return zlib.crc32(repr(scene).encode()) % 20 in SPLITS[split]


def _sample_objects(
    rng: random.Random, config: SceneConfig, count: int, group: bool
) -> Scene | None:
    """A scene of `count` random objects on a plain background, or None where no places are found
    for them in a few trials; so large objects are rarer among three.
    """
    choices = _pairs_by_name(config.withheld)
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
    return place_objects(rng, config, looks, sizes, group)


def place_objects(
    rng: random.Random,
    config: SceneConfig,
    looks: list[tuple[str, str]],
    sizes: list[str],
    group: bool,
) -> Scene | None:
    """A scene of objects of these (colour, shape) pairs and sizes at random places on a plain
    background; None where no places are found in 20 trials.
    """
    step = (config.snap or 1 / SUBPIXELS) / config.image_size
    for _ in range(20):
        centres = _sample_centres(rng, config.image_size, config.snap, sizes)
        if centres is None:
            continue
        objects = tuple(
            Object(shape, colour, size, x * step, y * step)
            for (colour, shape), size, (x, y) in zip(looks, sizes, centres, strict=True)
        )
        if group or len(objects) == 1:
            return Scene(objects)
        relation = relation_between(objects[0], objects[1])
        if relation:
            return Scene(objects, relation)
    return None


def _sample_centres(
    rng: random.Random, pixels: int, snap: int, sizes: list[str]
) -> list[tuple[int, int]] | None:
    """Centres of one to three objects in grid steps, far enough apart. None where 20 trials find no
    place for a third.
    """
    first = _anywhere(rng, _centres(pixels, snap, sizes[0]))
    if len(sizes) == 1:
        return [first]
    # Two objects are far enough apart along one axis by construction, because two large ones almost
    # never would be by chance.
    second = _anywhere(rng, _centres(pixels, snap, sizes[1]))
    apart = _steps_apart(pixels, snap, sizes[0], sizes[1])
    order = (0, 1) if rng.random() < 0.5 else (1, 0)
    (low, _), (other_low, n) = (_centres(pixels, snap, sizes[i]) for i in order)
    slack = other_low + n - 1 - low - apart
    before, after = int(rng.random() * (slack + 1)), int(rng.random() * (slack + 1))
    if before + after > slack:
        before, after = slack - before, slack - after
    along = {order[0]: low + before, order[1]: other_low + n - 1 - after}
    if rng.random() < 0.5:
        two = [(along[0], first[1]), (along[1], second[1])]
    else:
        two = [(first[0], along[0]), (second[0], along[1])]
    if len(sizes) == 2:
        return two
    needed = [_steps_apart(pixels, snap, size, sizes[2]) for size in sizes[:2]]
    for _ in range(20):
        x, y = _anywhere(rng, _centres(pixels, snap, sizes[2]))
        if all(
            max(abs(x - px), abs(y - py)) >= apart
            for (px, py), apart in zip(two, needed, strict=True)
        ):
            return [*two, (x, y)]
    return None


def _anywhere(rng: random.Random, centres: tuple[int, int]) -> tuple[int, int]:
    """A random centre, given what `_centres` says of a coordinate."""
    low, n = centres
    return low + int(rng.random() * n), low + int(rng.random() * n)


@lru_cache
def _centres(pixels: int, snap: int, size: str) -> tuple[int, int]:
    """The lowest coordinate of a centre that keeps an object inside the image, in grid steps, and
    the number of such coordinates. Without a grid an object stays half a pixel off the border.
    """
    step = snap or 1 / SUBPIXELS
    half = SIZES[size] * pixels / 2 + (0 if snap else 0.5)
    low, high = math.ceil(half / step), math.floor((pixels - half) / step)
    return low, high - low + 1


@lru_cache
def _steps_apart(pixels: int, snap: int, a: str, b: str) -> int:
    """The least distance of two centres, in grid steps, that leaves GAP between the objects."""
    return math.ceil(((SIZES[a] + SIZES[b]) / 2 + GAP) * pixels / (snap or 1 / SUBPIXELS) - 1e-6)


def sample_background(rng: random.Random, style: str) -> Background:
    """A random background of a style. "plain" is always the same grey, so that a tokenizer sees a
    single background patch.
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
