"""Sampling that starts from a picture: its size, the initial picture, and the mask of the part that
is sampled anew.

A mask becomes a grid of codes conservatively: a code is sampled anew if any white pixel lies in its
cell, so that every white pixel is painted. The other codes are kept, and their cells in the result
are exactly the codec's reconstruction of the initial picture, because they are pasted back: a
decoder whose receptive field spans several cells would let the new codes change them. With `paste`
every black pixel is the pixel of the initial picture itself.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image

from vilg.data.records import BadRecord, decode_image
from vilg.types import UserError
from vilg.workdir.session import Session

# strength of a variation where none is given; with a mask the default is 1, painting from noise
VARIATION = 0.7


@dataclasses.dataclass(frozen=True)
class Painting:
    """The options of a request that starts from a picture; "" and None stand for no option."""

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
        """Errors: UserError for a file that is no picture, and for a mask that is all black or of
        another size than the initial picture.
        """
        if self.init:
            start = read_picture("init", self.init)
            if self.mask:
                read_mask(self.mask, start.shape)

    def check(self, last: float) -> None:
        """Errors: UserError where sampling, which ends at the time `last`, would not begin before
        its end.
        """
        first = self.first.get("first", 2.0)
        if first <= last:
            raise UserError(
                f"strength={first:g}: must be above last={last:g}, where sampling ends; give more,"
                " or --last=0"
            )

    @property
    def first(self) -> dict[str, float]:
        """The sampler's option `first`, the time at which sampling begins, as --strength sets
        it.
        """
        if not self.init:
            return {}
        return {
            "first": self.strength if self.strength is not None else 1.0 if self.mask else VARIATION
        }

    @property
    def asked(self) -> dict[str, object]:
        """The options that the request has."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v not in ("", None, False)}


@dataclasses.dataclass(frozen=True, eq=False)
class Canvas:
    """A Painting with its files read and encoded: the grid of codes (None for the codec's own
    grid), the sampler's inputs of one row, and the pixels that are pasted back after sampling.
    """

    grid: tuple[int, int] | None
    inputs: dict[str, np.ndarray]
    kept: np.ndarray | None = None  # uint8 [H, W, 3]: the picture that is pasted back
    painted: np.ndarray | None = None  # bool [H, W]: where the sampled pixels stay

    def rows(self, n: int) -> dict[str, np.ndarray]:
        """The inputs, repeated for each of n prompts."""
        return {k: np.repeat(v, n, 0) for k, v in self.inputs.items()}

    def finished(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """A sampled picture with the kept pixels pasted back."""
        return (
            image
            if self.kept is None or self.painted is None
            else np.where(self.painted[..., None], image, self.kept)
        )


def prepare(painting: Painting, session: Session) -> Canvas:
    """The canvas of a painting: reads and encodes its files. Errors: UserError for a size that does
    not fit the model, a file that is no picture, and a mask that is all black or of another size.
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
    """The (height, width) of the result in pixels. Errors: UserError, which names the nearest sizes
    that fit the model.
    """
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
    """The picture in a file. Errors: UserError if the file is no picture."""
    try:
        return decode_image(path, Path(path).read_bytes())
    except OSError as error:
        raise UserError(
            f"{field}={path!r}: cannot be read ({error.strerror}); give a picture file"
        ) from None
    except BadRecord as error:
        raise UserError(f"{field}={path!r}: {error.reason}; give a picture file") from None


def read_mask(path: str, shape: tuple[int, ...]) -> UInt8[np.ndarray, "H W 3"]:
    """The mask in a file. Errors: UserError if its shape is not `shape`, the shape of the initial
    picture, or if it is all black.
    """
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
    """The largest part, in the middle of an image, that has the proportions of `size` (height,
    width), resized to `size`.
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
    """Which cells of a grid hold any True of the mask."""
    return np.any(
        mask.reshape(grid[0], mask.shape[0] // grid[0], grid[1], mask.shape[1] // grid[1]),
        axis=(1, 3),
    )
