"""What a scene is: a few coloured shapes on a grey background, and at most one stated relation.

Separate because the renderer, the captions and the scorer share these words and nothing else.
Leaves drawing scenes at random to `sampling`, pixels to `render`, language to `captions`, reading
pixels back to `scorer`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Saturated, and at least 30 degrees of hue apart after the grey part is taken away (see `scorer`).
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
# Widths as fractions of the image's: 7, 10.5 and 14 pixels of 32.
SIZES: dict[str, float] = {"small": 7 / 32, "medium": 10.5 / 32, "large": 14 / 32}
INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above"}
RELATIONS = tuple(INVERSE)
GAP = 2 / 32  # background between two objects, at least
MARGIN = 2 / 32  # by how much one axis must dominate before a relation is said


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
        """(size, colour, shape), the order in which captions say them."""
        return (self.size, self.colour, self.shape)

    @property
    def pair(self) -> tuple[str, str]:
        """(colour, shape), the unit that is withheld from training."""
        return (self.colour, self.shape)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in [0, 1]."""
        half = SIZES[self.size] / 2
        return (self.x - half, self.y - half, self.x + half, self.y + half)


@dataclass(frozen=True)
class Background:
    """A grey pattern: levels in [0, 1], angle in radians, period in image widths, phase in
    periods.
    """

    style: str = "plain"
    light: float = 0.88
    dark: float = 0.88
    angle: float = 0.0
    period: float = 0.25
    phase: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Objects on a background; `relation` says where objects[0] is, seen from objects[1].

    One object has no relation; two or three different objects have one; two or three alike (a
    group) have none."""

    objects: tuple[Object, ...]
    relation: str | None = None
    background: Background = Background()

    @property
    def group(self) -> bool:
        """Whether the scene is several objects that look the same."""
        return len(self.objects) > 1 and self.relation is None

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
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
    """Where a is, seen from b, along the axis that dominates by the margin; None where neither
    does.
    """
    dx, dy = a.x - b.x, a.y - b.y
    if abs(abs(dx) - abs(dy)) < margin - 1e-6:
        return None
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"
