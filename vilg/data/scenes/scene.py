"""A scene: a few coloured shapes on a grey background, and at most one stated relation.

The renderer, the captions and the scorer share this vocabulary and nothing else. `sampling` draws
random scenes, `render` makes pixels, `captions` describes scenes in words, and `scorer` reads a
scene back from pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Saturated colours whose hues are at least 30 degrees apart after the grey part is taken away (see
# `scorer`).
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 20, 45),
    "orange": (245, 125, 5),
    "yellow": (235, 230, 10),
    "green": (15, 180, 35),
    "cyan": (10, 205, 215),
    "blue": (30, 75, 235),
    "purple": (130, 20, 200),
    "pink": (250, 70, 195),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
# Widths in image widths: 7, 10.5 and 14 pixels of 32.
SIZES: dict[str, float] = {"small": 7 / 32, "medium": 10.5 / 32, "large": 14 / 32}
ATTRIBUTES = ("size", "colour", "shape")  # in the order in which captions name them
INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above"}
RELATIONS = tuple(INVERSE)
GAP = 2 / 32  # the least background between two objects, in image widths
# a relation is stated only if the distance along its axis is larger by this than along the other
MARGIN = 2 / 32


@dataclass(frozen=True)
class Object:
    """A shape with its centre; x and y run from 0 (left, top) to 1."""

    shape: str
    colour: str
    size: str
    x: float
    y: float

    @property
    def attributes(self) -> tuple[str, str, str]:
        """The values of ATTRIBUTES."""
        return (self.size, self.colour, self.shape)

    def values(self, names: Sequence[str]) -> tuple[str, ...]:
        """The values of some of ATTRIBUTES."""
        every = {"size": self.size, "colour": self.colour, "shape": self.shape}
        return tuple(every[name] for name in names)

    @property
    def pair(self) -> tuple[str, str]:
        """(colour, shape): training withholds such pairs."""
        return (self.colour, self.shape)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in [0, 1]."""
        half = SIZES[self.size] / 2
        return (self.x - half, self.y - half, self.x + half, self.y + half)


@dataclass(frozen=True)
class Background:
    """A grey pattern."""

    style: str = "plain"
    light: float = 0.88  # levels of grey in [0, 1]
    dark: float = 0.88
    angle: float = 0.0  # radians
    period: float = 0.25  # image widths
    phase: float = 0.0  # periods


@dataclass(frozen=True)
class Scene:
    """Objects on a background. `relation` states where objects[0] is, as seen from objects[1].

    One object has no relation, two or three different objects have one, and a group (two or three
    equal objects) has none."""

    objects: tuple[Object, ...]
    relation: str | None = None
    background: Background = Background()

    @property
    def group(self) -> bool:
        """Whether the scene has several objects that look the same."""
        return len(self.objects) > 1 and self.relation is None

    def to_dict(self) -> dict[str, Any]:
        """The scene as JSON can hold it."""
        objects = [dict(vars(o)) for o in self.objects]
        return {
            "objects": objects,
            "relation": self.relation,
            "background": dict(vars(self.background)),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Scene":
        """The scene that `to_dict` wrote."""
        objects = tuple(Object(**o) for o in stored["objects"])
        return cls(objects, stored["relation"], Background(**stored["background"]))


def relation_between(a: Object, b: Object, margin: float = MARGIN) -> str | None:
    """Where a is, as seen from b, along the axis of the larger distance. None where the distances
    along both axes differ by less than the margin.
    """
    dx, dy = a.x - b.x, a.y - b.y
    if abs(abs(dx) - abs(dy)) < margin - 1e-6:
        return None
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"
