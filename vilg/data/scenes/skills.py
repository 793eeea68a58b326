"""Six skills measured one by one: scenes that test one skill more than the others, and the skills
that a picture shows.

The score of `scorer` says whether a picture is right. Here a wrong number of objects does not make
the colours wrong, and two swapped colours do not make the relation wrong, so that a table of skills
shows what a model cannot do."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

from vilg.config import lookup, require
from vilg.data.scenes.sampling import (
    SceneConfig,
    in_split,
    place_objects,
    sample_background,
    withheld_pairs,
)
from vilg.data.scenes.scene import (
    ATTRIBUTES,
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    relation_between,
)
from vilg.data.scenes.scorer import SIDE, Reading, likeness

SKILLS = ("colour", "shape", "count", "relation", "size", "binding")


@dataclass(frozen=True)
class Category:
    """The scenes of a category of prompts."""

    skill: str  # the skill that decides whether a picture is right: one of SKILLS, or "everything"
    objects: tuple[int, ...] = (2,)  # the numbers of objects, in turn
    alike: bool = False  # all objects are equal
    share: tuple[str, ...] = ()  # attributes that have the same value in all objects
    differ: tuple[str, ...] = ()  # attributes that have another value in each object
    in_turn: bool = False  # the scenes have the four relations in turn

    def looks(
        self, rng: random.Random, pairs: Sequence[tuple[str, str]], number: int
    ) -> tuple[list[tuple[str, str]], list[str]]:
        """Random (colour, shape) pairs out of `pairs`, and random sizes, of `number` objects."""
        if self.alike or number == 1:
            return [rng.choice(pairs)] * number, [rng.choice(list(SIZES))] * number
        while True:
            looks = rng.sample(pairs, number)
            sizes = [rng.choice(list(SIZES)) for _ in range(number)]
            values = {
                "size": sizes,
                "colour": [c for c, _ in looks],
                "shape": [s for _, s in looks],
            }
            if all(len(set(values[n])) == 1 for n in self.share) and all(
                len(set(values[n])) == number for n in self.differ
            ):
                return looks, sizes


# Training has no two objects of one colour and one shape that differ in size, so the objects of the
# category of sizes differ in shape too.
CATEGORIES = {
    "single_object": Category("everything", objects=(1,)),
    "colour": Category("colour", share=("size", "shape"), differ=("colour",)),
    "shape": Category("shape", share=("size", "colour"), differ=("shape",)),
    "size": Category("size", share=("colour",), differ=("size", "shape")),
    "count": Category("count", objects=(2, 3), alike=True),
    "relation": Category("relation", differ=ATTRIBUTES, in_turn=True),
    "binding": Category("binding", differ=ATTRIBUTES),
}


def drawable(source: SceneConfig) -> dict[str, tuple[int, ...]]:
    """The categories whose scenes a source can have, each with the possible numbers of objects."""
    numbers = range(source.min_objects, source.max_objects + 1)
    weights = source.weights or (1.0,) * len(numbers)
    drawn = {k for k, weight in zip(numbers, weights, strict=True) if weight > 0}
    out = {}
    for name, category in CATEGORIES.items():
        share = source.groups if category.alike else 1 - source.groups
        possible = tuple(k for k in category.objects if k in drawn and (k == 1 or share > 0))
        if possible:
            out[name] = possible
    return out


def draw_scenes(
    source: SceneConfig, category: str, n: int, split: str, seed: int = 0
) -> list[Scene]:
    """n scenes of a category and a split, of colour-shape pairs that training sees. Size, snap and
    backgrounds are those of the source.

    Errors: UserError where the source has no such scenes."""
    chosen: Category = lookup(CATEGORIES, category, "category")
    numbers = drawable(source).get(category, ())
    require(
        len(numbers) > 0,
        "category",
        category,
        f"the data draws no such scenes; it has {', '.join(drawable(source))}",
    )
    pairs = [p for p in product(COLOURS, SHAPES) if p not in withheld_pairs(source.withheld)]
    scenes = []
    for i in range(n):
        rng = random.Random(f"{seed}/{split}/{category}/{i}")
        relation = RELATIONS[i % len(RELATIONS)] if chosen.in_turn else None
        while True:
            looks, sizes = chosen.looks(rng, pairs, numbers[i % len(numbers)])
            scene = place_objects(rng, source, looks, sizes, chosen.alike)
            if scene is not None and in_split(scene, split) and relation in (None, scene.relation):
                break
        scenes.append(
            Scene(
                scene.objects,
                scene.relation,
                sample_background(rng, rng.choice(source.backgrounds)),
            )
        )
    return scenes


def judge_skills(reading: Reading, scene: Scene) -> dict[str, bool | None]:
    """Whether the picture shows each of SKILLS, and "everything"; None where the scene does not
    test a skill, or where it cannot be decided.

        count       The picture has as many objects as the scene.
        colour      With the right count, each value occurs as often as in the scene. With a
        shape       wrong count, the same values occur, however often, because the rest is the
        size        fault of the count.
        relation    The two objects most like the scene's first two have its relation. Where two
                    pairs are equally like, as after a swap of colours, one pair is enough.
        binding     The count and the values of all three attributes are right, and the values
                    are on the right objects: the objects' (size, colour, shape) are those of the
                    scene. None where a value is wrong, and where the scene's objects differ in
                    fewer than two attributes, so that nothing can be swapped. With two objects
                    that differ in all three, values combined at random are right in 1 of 4.
        everything  The picture shows everything that the caption says.

    A picture that cannot be read shows nothing, and its binding is None."""
    seen, asked = reading.objects, scene.objects
    varied = sum(len({o.values([name]) for o in asked}) > 1 for name in ATTRIBUTES)
    if reading.reason:
        shown = dict.fromkeys((*SKILLS, "everything"), False)
        return shown | {"relation": None if scene.relation is None else False, "binding": None}
    count = len(seen) == len(asked)
    shown: dict[str, bool | None] = {
        name: same(seen, asked, (name,), often=count) for name in ATTRIBUTES
    }
    shown["count"] = count
    shown["relation"] = None if scene.relation is None else stands(seen, scene)
    looks = same(seen, asked, ATTRIBUTES, often=True)
    values = count and all(shown[name] for name in ATTRIBUTES)
    shown["binding"] = looks if values and varied > 1 else None
    shown["everything"] = looks and shown["relation"] is not False
    return shown


def same(
    seen: Sequence[Object], asked: Sequence[Object], names: tuple[str, ...], often: bool
) -> bool:
    """Whether both have the same values of the attributes.

    With `often` each value has to occur equally often in both."""
    a, b = (Counter(o.values(names) for o in objects) for objects in (seen, asked))
    return a == b if often else set(a) == set(b)


def stands(seen: Sequence[Object], scene: Scene) -> bool:
    """Whether two of the objects seen, most like the scene's first two, have its relation."""
    pairs = {
        pair: sum(likeness(s, o) for s, o in zip(pair, scene.objects, strict=False))
        for pair in permutations(seen, 2)
    }
    best = max(pairs.values(), default=0)
    return any(
        relation_between(*pair, margin=1 / SIDE) == scene.relation
        for pair, like in pairs.items()
        if like == best
    )
