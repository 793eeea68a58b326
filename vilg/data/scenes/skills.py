"""Skills apart: scenes whose prompt asks for one thing more than for the others, and whether a
picture shows each of six things.

Separate from `scorer`, whose score says whether a picture is right: here a wrong count must not
make the colour wrong, nor a swap of two colours the relation, so that a table of skills tells what
a model lacks."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

from vilg.config import lookup, require
from vilg.data.scenes.sampling import (
    SceneConfig,
    arrange,
    in_split,
    sample_background,
    withheld_pairs,
)
from vilg.data.scenes.scene import (
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    relation_between,
)
from vilg.data.scenes.scorer import SIDE, Reading

ATTRIBUTES = ("size", "colour", "shape")
SKILLS = ("colour", "shape", "count", "relation", "size", "binding")


@dataclass(frozen=True)
class Category:
    """What the scenes of a category are: `objects` numbers of objects in turn, `alike` or two that
    share and differ in the named attributes. `skill` is what decides: one of SKILLS, or
    "everything"."""

    skill: str
    objects: tuple[int, ...] = (2,)
    alike: bool = False
    share: tuple[str, ...] = ()
    differ: tuple[str, ...] = ()
    in_turn: bool = False  # the four relations in turn

    def looks(
        self, rng: random.Random, pairs: Sequence[tuple[str, str]], number: int
    ) -> tuple[list[tuple[str, str]], list[str]]:
        """(colour, shape) pairs, of those given, and sizes of `number` objects."""
        if self.alike or number == 1:
            return [rng.choice(pairs)] * number, [rng.choice(list(SIZES))] * number
        while True:
            looks, sizes = (
                rng.sample(pairs, number),
                [rng.choice(list(SIZES)) for _ in range(number)],
            )
            values = {
                "size": sizes,
                "colour": [c for c, _ in looks],
                "shape": [s for _, s in looks],
            }
            if all(len(set(values[n])) == 1 for n in self.share) and all(
                len(set(values[n])) == number for n in self.differ
            ):
                return looks, sizes


# Training never draws two objects of one colour and one shape that differ in size, so the category
# of sizes has two shapes.
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
    """The categories of which a source draws scenes, with the numbers of objects that it has for
    each.
    """
    numbers = range(source.min_objects, source.max_objects + 1)
    weights = source.weights or (1.0,) * len(numbers)
    drawn = {k for k, weight in zip(numbers, weights, strict=True) if weight > 0}
    out = {}
    for name, category in CATEGORIES.items():
        share = source.groups if category.alike else 1 - source.groups
        have = tuple(k for k in category.objects if k in drawn and (k == 1 or share > 0))
        if have:
            out[name] = have
    return out


def draw_scenes(
    source: SceneConfig, category: str, n: int, split: str, seed: int = 0
) -> list[Scene]:
    """n scenes of a category and a split, of colour-shape pairs that training sees; size, snap and
    backgrounds are the source's.

    Errors: UserError where the source draws no such scenes.
    """
    chosen, have = lookup(CATEGORIES, category, "category"), drawable(source).get(category, ())
    require(
        len(have) > 0,
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
            looks, sizes = chosen.looks(rng, pairs, have[i % len(have)])
            scene = arrange(rng, source, looks, sizes, chosen.alike)
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
    """Which of SKILLS a picture that has been read shows, and "everything"; None where the scene
    does not ask, or it cannot be told.

    count: as many objects as asked for. colour, shape, size: where the count is right, each value
    as often as asked for; else the same values, however often, since the rest is the count's fault.
    relation: the objects most like the first two asked for stand as asked; where two pairings are
    equally like, as after a swap of colours, one that does is enough. binding: the values of all
    three attributes being right (and the count), they are on the right objects, that is, the
    objects' (size, colour, shape) are those asked for. It is None where a value is wrong, and where
    the objects asked for differ in one attribute or none, so that nothing can be swapped. With two
    objects that differ in all three, values put together at random are right in 1 of 4. everything:
    what the caption says.

    A picture that cannot be read shows nothing; its binding is None.
    """
    seen, asked = reading.objects, scene.objects
    varied = sum(len({getattr(o, name) for o in asked}) > 1 for name in ATTRIBUTES)
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
    """Whether both have the same values of the attributes: each as often, or however often."""
    a, b = (
        Counter(tuple(getattr(o, name) for name in names) for o in objects)
        for objects in (seen, asked)
    )
    return a == b if often else set(a) == set(b)


def stands(seen: Sequence[Object], scene: Scene) -> bool:
    """Whether two of the objects seen, most like the first two asked for, stand as asked."""
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


def likeness(a: Object, b: Object) -> int:
    """How many attributes two objects share."""
    return sum(getattr(a, name) == getattr(b, name) for name in ATTRIBUTES)
