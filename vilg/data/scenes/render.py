"""Antialiased pixels of scenes, in NumPy. Training, the scorer's templates and the reports all draw
with these functions."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8

from vilg.config import lookup
from vilg.data.scenes.scene import COLOURS, SIZES, Background, Scene

SUPERSAMPLE = 8
INK = {name: np.array(rgb, np.float32) / 255 for name, rgb in COLOURS.items()}

# Whether a point is inside the shape: u runs from -1 (left) to 1, v from -1 (top) to 1.
INSIDE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 1,
    "triangle": lambda u, v: (abs(u) <= (v + 1) / 2) & (v <= 1),
    "diamond": lambda u, v: abs(u) + abs(v) <= 1,
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 0.34) & (np.maximum(abs(u), abs(v)) <= 1),
    "ring": lambda u, v: (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.27),
}


@lru_cache(maxsize=8192)
def coverage(shape: str, width: float, dx: float, dy: float) -> Float[np.ndarray, "p p"]:
    """The share of each pixel of a patch that a shape covers. The shape is `width` pixels wide, and
    its centre is (dx, dy) pixels right of and below the patch's middle; p is even.
    """
    radius = int(np.ceil(width / 2)) + 1
    points = (np.arange(2 * radius * SUPERSAMPLE) + 0.5) / SUPERSAMPLE - radius
    inside = INSIDE[shape]((points[None, :] - dx) * 2 / width, (points[:, None] - dy) * 2 / width)
    return inside.reshape(2 * radius, SUPERSAMPLE, 2 * radius, SUPERSAMPLE).mean(
        (1, 3), dtype=np.float32
    )


@lru_cache
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The x [1, size] and y [size, 1] of pixel centres, in image widths."""
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return centres[None, :], centres[:, None]


def _soft(wave: np.ndarray) -> np.ndarray:
    """A pattern in [0, 1] from a wave in [-1, 1], with edges that are about one pixel wide."""
    return np.clip(wave * 1.5 + 0.5, 0, 1)


def _turned(background: Background, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phases, in radians, along the background's angle and across it."""
    c, s = np.float32(np.cos(background.angle)), np.float32(np.sin(background.angle))
    scale = np.float32(2 * np.pi / background.period)
    shift = np.float32(2 * np.pi * background.phase)
    return (x * c + y * s) * scale + shift, (y * c - x * s) * scale + shift


def _gradient(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    c, s = np.cos(background.angle), np.sin(background.angle)
    ramp = (x - 0.5) * np.float32(c) + (y - 0.5) * np.float32(s)
    return ramp / np.float32(abs(c) + abs(s)) + 0.5


def _stripes(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _soft(np.sin(_turned(background, x, y)[0]))


def _checker(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along, across = _turned(background, x, y)
    return _soft(np.sin(along) * np.sin(across))


def _dots(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along, across = _turned(background, x, y)
    return _soft((np.sin(along) + np.sin(across)) / 2 - 0.45)


def _plain(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.ones((y.size, x.size), np.float32)


PATTERNS = {
    "plain": _plain,
    "gradient": _gradient,
    "stripes": _stripes,
    "checker": _checker,
    "dots": _dots,
}


def paint_background(background: Background, size: int) -> Float[np.ndarray, "size size"]:
    """The grey levels of a background, in [0, 1]."""
    pattern = lookup(PATTERNS, background.style, "background.style")(background, *_grid(size))
    return np.float32(background.dark) + np.float32(background.light - background.dark) * pattern


def render(scene: Scene, size: int = 32) -> UInt8[np.ndarray, "size size 3"]:
    """The picture of a scene, `size` pixels along a side. Centres are rounded to 1/8 pixel."""
    canvas = np.repeat(paint_background(scene.background, size)[:, :, None], 3, axis=2)
    for o in scene.objects:
        x, y = round(o.x * size * 8), round(o.y * size * 8)
        mask = coverage(o.shape, SIZES[o.size] * size, x % 8 / 8, y % 8 / 8)
        radius = len(mask) // 2
        top, left = y // 8 - radius, x // 8 - radius
        rows, columns = (
            slice(max(top, 0), max(top + 2 * radius, 0)),
            slice(max(left, 0), max(left + 2 * radius, 0)),
        )
        patch = canvas[rows, columns]
        mask = mask[rows.start - top :, columns.start - left :][
            : patch.shape[0], : patch.shape[1], None
        ]
        patch += mask * (INK[o.colour] - patch)
    return (canvas * 255 + 0.5).astype(np.uint8)
