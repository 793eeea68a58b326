"""Scenes in which one thing is changed, so that the old picture and the new caption no longer go
together: hard negatives.

Separate from drawing scenes at random: these are never rendered, only described, so places need not
follow the words."""

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

from vilg.config import lookup
from vilg.data.scenes.scene import COLOURS, INVERSE, SHAPES, SIZES, Object, Scene


def change(scene: Scene, kind: str, rng: random.Random) -> Scene | None:
    """The scene with one thing of a kind of CHANGES other than it was; None where the scene has no
    such thing to change.

    What `describe` says of the result is false of the scene's picture, in the wording of the
    scene's own caption but for that thing."""
    return lookup(CHANGES, kind, "change")(scene, rng)


def attribute(name: str, words: Sequence[str]) -> Callable[[Scene, random.Random], Scene | None]:
    """Another colour, shape or size of one object (of all objects of a group, which are described
    together).
    """

    def changed(scene: Scene, rng: random.Random) -> Scene | None:
        chosen = 0 if scene.group else rng.randrange(len(scene.objects))
        # a word that no object has: with another object's, the caption might be true in another
        # order
        others = {getattr(o, name) for o in scene.objects}
        free = [word for word in words if word not in others]
        if not free:
            return None
        new: dict[str, Any] = {name: rng.choice(free)}
        every = range(len(scene.objects)) if scene.group else (chosen,)
        objects = tuple(
            dataclasses.replace(o, **new) if k in every else o for k, o in enumerate(scene.objects)
        )
        return dataclasses.replace(scene, objects=objects)

    return changed


def count(scene: Scene, rng: random.Random) -> Scene | None:
    """One, two or three of the same thing where there was another number of it."""
    if scene.relation is not None:
        return None
    number = rng.choice([n for n in (1, 2, 3) if n != len(scene.objects)])
    return dataclasses.replace(scene, objects=scene.objects[:1] * number)


def relation(scene: Scene, rng: random.Random) -> Scene | None:
    """The opposite of where the first object is, seen from the second."""
    if scene.relation is None:
        return None
    return dataclasses.replace(scene, relation=INVERSE[scene.relation])


def binding(scene: Scene, rng: random.Random) -> Scene | None:
    """The colours of the first two objects exchanged: every word of the caption stays, who has
    which does not. Only where their shapes differ too, since otherwise it is the objects that are
    exchanged."""
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


CHANGES: dict[str, Callable[[Scene, random.Random], Scene | None]] = {
    "colour": attribute("colour", tuple(COLOURS)),
    "shape": attribute("shape", SHAPES),
    "size": attribute("size", tuple(SIZES)),
    "count": count,
    "relation": relation,
    "binding": binding,
}
