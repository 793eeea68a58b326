"""What a picture is painted on: its size, the picture that it starts from, and the mask of what is
painted anew.

A mask is rasterised conservatively: a code is painted anew if any white pixel lies in its cell, so
all that is white is painted. Cells without white keep their codes, and in the picture they are the
codec's reconstruction of the start exactly (a decoder that looks at neighbours would let the new
codes show through); with `paste` every black pixel is the start's own."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image

from vilg.data.records import BadRecord, decode_image
from vilg.types import UserError
from vilg.workdir.session import Session

VARIATION = 0.7  # strength of a variation that names none; with a mask all is painted from noise


@dataclasses.dataclass(frozen=True)
class Painting:
    """What was asked for; "" and None are what was not."""

    init: str = ""
    mask: str = ""
    strength: float | None = None
    height: int | None = None
    width: int | None = None
    paste: bool = False

    def __post_init__(self) -> None:
        needs = {
            "mask": ("init", "the picture whose other parts are kept"),
            "strength": ("init", "the picture to vary"),
        }
        needs["paste"] = ("mask", "whose black pixels it keeps")
        for name, (other, what) in needs.items():
            if getattr(self, name) not in ("", None, False) and not getattr(self, other):
                raise UserError(f"{name}={getattr(self, name)!r}: needs --{other}=IMAGE, {what}")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise UserError(
                f"strength={self.strength!r}: must lie in (0, 1]; 1 keeps nothing but the mask's"
                " black"
            )

    def check_files(self) -> None:
        """Errors: UserError for files that are no pictures, and for a mask that is not as large as
        the start, or all black.
        """
        if self.init:
            start = read_picture("init", self.init)
            if self.mask:
                read_mask(self.mask, start.shape)

    def check(self, last: float) -> None:
        """Errors: UserError where sampling would end before it begins."""
        first = self.first.get("first", 2.0)
        if first <= last:
            raise UserError(
                f"strength={first:g}: must be above last={last:g}, where sampling ends; give more,"
                " or --last=0"
            )

    @property
    def first(self) -> dict[str, float]:
        """The control that strength is."""
        if not self.init:
            return {}
        return {
            "first": self.strength if self.strength is not None else 1.0 if self.mask else VARIATION
        }

    @property
    def asked(self) -> dict[str, Any]:
        """The options that were given."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v not in ("", None, False)}


@dataclasses.dataclass(frozen=True, eq=False)
class Canvas:
    """A painting made ready: the grid of codes (None: the codec's own), inputs of one row, and what
    is put back afterwards.
    """

    grid: tuple[int, int] | None
    inputs: dict[str, np.ndarray]
    kept: np.ndarray | None = None  # uint8 [H, W, 3]
    painted: np.ndarray | None = None  # bool [H, W]

    def rows(self, n: int) -> dict[str, np.ndarray]:
        """The inputs, once for each of n prompts."""
        return {k: np.repeat(v, n, 0) for k, v in self.inputs.items()}

    def finished(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """A sampled picture with what is kept put back."""
        return (
            image
            if self.kept is None or self.painted is None
            else np.where(self.painted[..., None], image, self.kept)
        )


def prepare(painting: Painting, session: Session) -> Canvas:
    """Reads and encodes. Errors: UserError for sizes that do not fit, files that are no pictures, a
    mask of another size or all black.
    """
    codec = session.experiment.image_codec
    size = fitting_size(painting, session)
    factors = codec.image_size // codec.grid[0], codec.image_size // codec.grid[1]
    grid = size[0] // factors[0], size[1] // factors[1]
    other = None if grid == tuple(codec.grid) else grid
    if not painting.init:
        return Canvas(other, {})
    start = read_picture("init", painting.init)
    fitted = fit_to(start, size, Image.Resampling.LANCZOS)
    codes = session.codes(fitted[None])
    if not painting.mask:
        return Canvas(other, {"init": codes})
    mask = read_mask(painting.mask, start.shape)
    white = fit_to((np.mean(mask, -1) >= 128).astype(np.float32), size, Image.Resampling.BOX) > 0
    cells = boxed(white, grid)
    kept, painted = (
        (fitted, white)
        if painting.paste
        else (session.pictures(codes)[0], cells.repeat(factors[0], 0).repeat(factors[1], 1))
    )
    return Canvas(other, {"init": codes, "mask": cells[None].astype(np.float32)}, kept, painted)


def fitting_size(painting: Painting, session: Session) -> tuple[int, int]:
    """(height, width) in pixels. Errors: UserError with the nearest that fit."""
    codec = session.experiment.image_codec
    sizes = []
    for axis, name in enumerate(("height", "width")):
        factor = codec.image_size // codec.grid[axis] * session.experiment.model.size_multiple
        given = getattr(painting, name)
        value = codec.image_size if given is None else given
        if value < factor or value % factor:
            below, above = (
                max(factor, value // factor * factor),
                max(factor, -(-value // factor) * factor),
            )
            near = " or ".join(map(str, dict.fromkeys((below, above))))
            raise UserError(
                f"{name}={value}: must be a multiple of {factor} pixels (the codec's factor x the"
                f" denoiser's); give {near}"
            )
        sizes.append(value)
    return sizes[0], sizes[1]


def read_picture(field: str, path: str) -> UInt8[np.ndarray, "H W 3"]:
    """The picture of a file. Errors: UserError if it is none."""
    try:
        return decode_image(path, Path(path).read_bytes())
    except OSError as error:
        raise UserError(
            f"{field}={path!r}: cannot be read ({error.strerror}); give a picture file"
        ) from None
    except BadRecord as error:
        raise UserError(f"{field}={path!r}: {error.reason}; give a picture file") from None


def read_mask(path: str, shape: tuple[int, ...]) -> UInt8[np.ndarray, "H W 3"]:
    """The mask of a file. Errors: UserError where it is not of the start's shape, or all black."""
    mask = read_picture("mask", path)
    if mask.shape != shape:
        theirs, ours = (f"{s[1]}x{s[0]}" for s in (mask.shape, shape))
        raise UserError(
            f"mask={path!r}: is {theirs} pixels, init is {ours}; give a mask of that size, white"
            " where to paint anew"
        )
    if not np.any(np.mean(mask, -1) >= 128):
        raise UserError(
            f"mask={path!r}: is all black, so nothing is painted anew; make that part white"
        )
    return mask


def fit_to(
    image: Shaped[np.ndarray, "h w ..."], size: Sequence[int], filter: Image.Resampling
) -> Shaped[np.ndarray, "H W ..."]:
    """The largest centred part of the size's proportions (as data.records.fit takes a square),
    resized to it.
    """
    height, width = image.shape[:2]
    rows, columns = (
        min(height, max(1, round(width * size[0] / size[1]))),
        min(width, max(1, round(height * size[1] / size[0]))),
    )
    top, left = (height - rows) // 2, (width - columns) // 2
    part = np.ascontiguousarray(image[top : top + rows, left : left + columns])
    return (
        part
        if part.shape[:2] == tuple(size)
        else np.asarray(Image.fromarray(part).resize((size[1], size[0]), filter))
    )


def boxed(mask: Bool[np.ndarray, "H W"], grid: tuple[int, int]) -> Bool[np.ndarray, "y x"]:
    """Which cells of a grid hold any of the mask."""
    return np.any(
        mask.reshape(grid[0], mask.shape[0] // grid[0], grid[1], mask.shape[1] // grid[1]),
        axis=(1, 3),
    )
