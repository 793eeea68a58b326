"""Reads a scene back from pixels, without the prompt, and scores how much of the prompt's scene the
picture shows.

All scores of pictures of scenes rest on this reader, which shares only `render.coverage` and the
vocabulary with the rest. Backgrounds are grey: without each pixel's grey part only the objects are
left, and blurring and adding are linear in the colour that is left. Each connected patch of colour
is compared with every shape, size, place and softness of edge. Where the best match is poor, too
soft, hardly better than another, or cut off by the border, the reader gives a reason instead of
objects, and the picture counts as wrong."""

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import permutations, product

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from vilg.config import require
from vilg.data.scenes.render import INK, coverage
from vilg.data.scenes.scene import COLOURS, SHAPES, SIZES, Object, Scene, relation_between

SIDE = 32  # pixels along a side, at which every image is read
# Two axes of colour that are orthogonal to grey.
CHROMA = np.array([[1, -1, 0], [1, 1, -2]], np.float32).T / np.sqrt([2, 6], dtype=np.float32)
DIRECTIONS = np.stack([INK[colour] @ CHROMA for colour in COLOURS])
SOFTNESS = (0.0, 0.4, 0.7, 0.95, 1.1, 1.3, 1.5, 1.9, 2.5)  # blurs tried, in pixels of SIDE
HALF = 11  # templates are windows of 2 * HALF + 1 pixels
# places of a centroid along an axis, in pixels from the middle of the window
PLACES = (-0.625, -0.375, -0.125, 0.125, 0.375, 0.625)
LIKELY = 5  # kinds that are compared at every place and softness

# Thresholds, chosen on renders, blurred and noisy renders, and altered scenes; see
# tests/data/test_scenes_scorer.py.
PRESENT = 0.45  # smoothed strength of colour from which a pixel is part of an object
SPECK = 4.0  # a patch with less colour than so many full pixels is ignored
SOFTEST = 1.15  # the largest blur of an edge that still counts as an object
RESIDUAL = 0.14  # share of a patch's energy that the best match may leave unexplained
LEAD = 0.005  # share of a patch's energy by which the best match must beat other kinds
HUE = 15.0  # degrees that a hue may be away from one of COLOURS
STRENGTH = (0.6, 1.3)  # strength of a colour, relative to that of COLOURS
NOISE = 0.2  # the largest standard deviation of colour outside of objects


@dataclass(frozen=True)
class Reading:
    """The objects of a picture with no relation, or the reason why they cannot be read."""

    objects: tuple[Object, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Score:
    """The parts of a scene that a picture shows. All are False where it cannot be read."""

    readable: bool = False
    count: bool = False
    colour: bool = False  # the colours of all objects, regardless of their shapes and sizes
    shape: bool = False
    size: bool = False
    relation: bool = False
    colour_and_shape: bool = False  # each colour is on the right shape
    everything: bool = False  # everything that the caption says
    reading: Reading = field(default=Reading(), compare=False)


KINDS = tuple((shape, size) for shape in SHAPES for size in SIZES)  # of objects


@lru_cache
def _templates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The looks of objects: windows [kind, place, softness, span * span] divided by their norms,
    the norms [kind, place, softness], and the (x, y) of the object's centre from the middle of the
    window [kind, place, 2]."""
    from scipy import ndimage  # here, because sampling needs no scipy

    span = 2 * HALF + 1
    windows = np.zeros((len(KINDS), len(PLACES) ** 2, len(SOFTNESS), span, span), np.float32)
    centres = np.zeros((len(KINDS), len(PLACES) ** 2, 2), np.float32)
    for kind, (shape, size) in enumerate(KINDS):
        width = SIZES[size] * SIDE
        middle = _centroid(shape, width)
        for place, (dy, dx) in enumerate(product(PLACES, PLACES)):
            # The centroid is what can be seen: it is placed (dx, dy) from the window's middle.
            x, y = 0.5 + dx, 0.5 + dy - middle
            left, top = int(np.floor(x)), int(np.floor(y))
            mask = coverage(shape, width, x - left, y - top)
            rows, columns = HALF + top - len(mask) // 2, HALF + left - len(mask) // 2
            window = np.zeros((span, span), np.float32)
            window[rows : rows + len(mask), columns : columns + len(mask)] = mask
            for softness, sigma in enumerate(SOFTNESS):
                windows[kind, place, softness] = (
                    ndimage.gaussian_filter(window, sigma, mode="constant") if sigma else window
                )
            centres[kind, place] = x - 0.5, y - 0.5
    windows = windows.reshape(*windows.shape[:3], span * span)
    norms = np.linalg.norm(windows, axis=-1)
    return windows / norms[..., None], norms, centres


def _centroid(shape: str, width: float) -> float:
    """The distance of a shape's centroid below its centre, in pixels."""
    mask = coverage(shape, width, 0.0, 0.0)
    rows = np.arange(len(mask)) + 0.5 - len(mask) / 2
    return float((mask.sum(1) * rows).sum() / mask.sum())


def read(image: np.ndarray) -> Reading:
    """The objects of a square picture, uint8 [H, W, 3], read at 32 x 32 pixels.

    Errors: UserError for another array, or one of fewer than 32 x 32 pixels."""
    from scipy import ndimage  # here, because sampling needs no scipy

    shape = np.shape(image)
    square = len(shape) == 3 and shape[0] == shape[1] >= SIDE and shape[2] == 3
    remedy = "the scorer reads square uint8 RGB pictures of at least 32 x 32 pixels"
    require(square and np.asarray(image).dtype == np.uint8, "image", shape, remedy)
    if shape[0] != SIDE:
        image = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))
    chroma = (image.astype(np.float32) / 255) @ CHROMA
    smooth = ndimage.gaussian_filter(chroma, (0.8, 0.8, 0), mode="nearest")
    strength = (smooth @ (DIRECTIONS / (DIRECTIONS**2).sum(1, keepdims=True)).T).max(-1)
    labels, found = ndimage.label(strength > PRESENT, np.ones((3, 3)))  # type: ignore[misc]
    if found > 12:
        return Reading(reason="too many patches of colour")
    if not found:
        return Reading(reason="no object")
    distance, nearest = ndimage.distance_transform_edt(  # type: ignore[misc]
        labels == 0, return_indices=True
    )
    owner = labels[tuple(nearest)]
    outside = chroma[distance > 4]
    noise = float((outside**2).mean()) if outside.size else 0.0
    if noise > NOISE**2:
        return Reading(reason="the background is not grey")
    objects = []
    for label in range(1, found + 1):
        patch = (owner == label) & (distance <= 4)
        mass = float(strength[labels == label].sum())
        if mass < SPECK:
            continue
        seen = _read_patch(chroma * patch[:, :, None], patch, noise)
        if isinstance(seen, str):
            return Reading(reason=seen)
        objects.append(seen)
    return Reading(tuple(objects), "" if objects else "no object")


def _read_patch(
    chroma: Float[np.ndarray, "y x 2"], patch: Bool[np.ndarray, "y x"], noise: float
) -> Object | str:
    """The object that a patch of colour shows, or the reason why it shows none.

    `chroma` is 0 outside the patch."""
    windows, norms, centres = _templates()
    total = chroma.sum((0, 1))
    tint = total / max(float(np.linalg.norm(total)), 1e-6)
    amount = chroma @ tint
    weight = np.maximum(amount, 0) * patch
    y, x = (float((weight * axis).sum() / weight.sum()) for axis in np.mgrid[:SIDE, :SIDE])
    row, column = round(y), round(x)
    view = np.pad(amount, HALF)[row : row + 2 * HALF + 1, column : column + 2 * HALF + 1].ravel()
    # The likely kinds are chosen at one softness, then compared at every place and softness.
    likely = np.argsort((windows[:, :, SOFTNESS.index(0.7)] @ view).max(1))[: -LIKELY - 1 : -1]
    fits = np.maximum([windows[kind] @ view for kind in likely], 0)
    order, place, softness = np.unravel_index(fits.argmax(), fits.shape)
    kind, fit = int(likely[order]), float(fits[order, place, softness])
    pixels = float(patch.sum())
    energy = max(float((chroma**2).sum()) - 2 * noise * pixels, 1e-6)
    spread = 2 * noise * np.sqrt(pixels)
    if SOFTNESS[softness] > SOFTEST:
        return "an edge is too soft"
    if energy - fit**2 > RESIDUAL * energy + 3 * spread:
        return "a patch of colour looks like none of the shapes"
    if fit**2 - float(np.delete(fits, order, 0).max()) ** 2 < LEAD * energy + 6 * noise:
        return "a patch of colour looks like two of the shapes"
    level = fit / float(norms[kind, place, softness])
    cosines = DIRECTIONS @ tint / np.linalg.norm(DIRECTIONS, axis=1)
    colour = int(cosines.argmax())
    if np.degrees(np.arccos(min(float(cosines[colour]), 1.0))) > HUE:
        return "a colour is none of the colours"
    if not STRENGTH[0] <= level / np.linalg.norm(DIRECTIONS[colour]) <= STRENGTH[1]:
        return "a colour is too pale or too strong"
    shape, size = KINDS[kind]
    dx, dy = centres[kind, place]
    o = Object(
        shape,
        list(COLOURS)[colour],
        size,
        (column + 0.5 + float(dx)) / SIDE,
        (row + 0.5 + float(dy)) / SIDE,
    )
    if min(o.box[:2]) < -1 / SIDE or max(o.box[2:]) > 1 + 1 / SIDE:
        return "an object is cut off by the border"
    return o


def score(image: np.ndarray, scene: Scene) -> Score:
    """The parts of a scene that a picture shows: objects are matched by their attributes, then the
    relation is judged.
    """
    return judge(read(image), scene)


def judge(reading: Reading, scene: Scene) -> Score:
    """The score of a picture from what was read in it."""
    if reading.reason:
        return Score(reading=reading)
    seen, asked = reading.objects, scene.objects
    count = len(seen) == len(asked)
    relation = scene.relation is None or (
        min(len(seen), len(asked)) > 1 and _relation_holds(seen, scene)
    )
    full = _same(seen, asked, "size", "colour", "shape")
    colour, shape, size = (_same(seen, asked, name) for name in ("colour", "shape", "size"))
    return Score(
        True,
        count,
        colour,
        shape,
        size,
        relation,
        _same(seen, asked, "colour", "shape"),
        count and full and relation,
        reading,
    )


def _same(seen: tuple[Object, ...], asked: tuple[Object, ...], *names: str) -> bool:
    """Whether the values of the attributes occur equally often in both."""
    return Counter(o.values(names) for o in seen) == Counter(o.values(names) for o in asked)


def likeness(a: Object, b: Object) -> int:
    """The number of attributes that have the same value in both objects."""
    return sum(x == y for x, y in zip(a.attributes, b.attributes, strict=True))


def _relation_holds(seen: tuple[Object, ...], scene: Scene) -> bool:
    """Whether the two objects seen that are most like the scene's first two have its relation."""
    a, b = max(
        permutations(seen, 2),
        key=lambda pair: sum(likeness(s, o) for s, o in zip(pair, scene.objects[:2], strict=True)),
    )
    return relation_between(a, b, margin=1 / SIDE) == scene.relation
