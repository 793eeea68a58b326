"""Hard negatives: scenes in which one thing is changed, so that the caption of the changed scene is
false of the picture of the old one.

Changed scenes are described and never rendered, so the places of objects need not agree with the
words."""

import dataclasses
import random
from collections.abc import Callable, Sequence

from vilg.config import lookup
from vilg.data.scenes.scene import COLOURS, INVERSE, SHAPES, SIZES, Object, Scene

Change = Callable[[Scene, random.Random], Scene | None]


def change(scene: Scene, kind: str, rng: random.Random) -> Scene | None:
    """The scene with one change of a kind of CHANGES; None where the scene has nothing of that kind
    to change.

    The caption that `describe` gives of the result differs from the scene's own caption in that
    thing only, and is false of the scene's picture."""
    return lookup(CHANGES, kind, "change")(scene, rng)


def attribute(name: str, words: Sequence[str]) -> Change:
    """The change of the colour, shape or size of one object, or of all objects of a group, which a
    caption describes together.
    """

    def changed(scene: Scene, rng: random.Random) -> Scene | None:
        chosen = 0 if scene.group else rng.randrange(len(scene.objects))
        # The new value is one that no object has: with the value of another object, the caption
        # might be true in another order of objects.
        present = {value for o in scene.objects for value in o.values([name])}
        free = [word for word in words if word not in present]
        if not free:
            return None
        new: dict[str, object] = {name: rng.choice(free)}
        indices = range(len(scene.objects)) if scene.group else (chosen,)
        objects = tuple(
            dataclasses.replace(o, **new) if k in indices else o
            for k, o in enumerate(scene.objects)
        )
        return dataclasses.replace(scene, objects=objects)

    return changed


def count(scene: Scene, rng: random.Random) -> Scene | None:
    """Another number, from one to three, of the same object."""
    if scene.relation is not None:
        return None
    number = rng.choice([n for n in (1, 2, 3) if n != len(scene.objects)])
    return dataclasses.replace(scene, objects=scene.objects[:1] * number)


def relation(scene: Scene, rng: random.Random) -> Scene | None:
    """The opposite relation of the first two objects."""
    if scene.relation is None:
        return None
    return dataclasses.replace(scene, relation=INVERSE[scene.relation])


def binding(scene: Scene, rng: random.Random) -> Scene | None:
    """The colours of the first two objects exchanged: the caption has the same words in another
    order. The shapes must differ, because else the whole objects would be exchanged."""
    if scene.relation is None:
        return None
    a, b = scene.objects[:2]
    if a.colour == b.colour or a.shape == b.shape:
        return None
    return dataclasses.replace(
        scene, objects=(recoloured(a, b.colour), recoloured(b, a.colour), *scene.objects[2:])
    )


def recoloured(o: Object, colour: str) -> Object:
    """The object in another colour."""
    return dataclasses.replace(o, colour=colour)


CHANGES: dict[str, Change] = {
    "colour": attribute("colour", tuple(COLOURS)),
    "shape": attribute("shape", SHAPES),
    "size": attribute("size", tuple(SIZES)),
    "count": count,
    "relation": relation,
    "binding": binding,
}
