"""The ways of resizing a picture to a feature extractor's input size.

FID depends on the way of resizing (Parmar et al. 2022), so each has a name, which a score's
protocol states. Each returns float32 in [-1, 1] or nearly: the published networks were fed with
different scales, which belong to the name."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image


def pytorch_fid(image: UInt8[np.ndarray, "H W 3"], side: int) -> Float[np.ndarray, "y x 3"]:
    """pytorch-fid's: bilinear between the four nearest pixels at any scale (F.interpolate,
    align_corners=False), so that shrinking aliases; pixels become x / 127.5 - 1.
    """
    rows, columns = (bilinear_matrix(n, side) for n in image.shape[:2])
    pixels = image.astype(np.float32)
    (low, high, weight), (left, right, across) = rows, columns
    tall = pixels[low] + (pixels[high] - pixels[low]) * weight[:, None, None]
    wide = tall[:, left] + (tall[:, right] - tall[:, left]) * across[None, :, None]
    return wide / np.float32(127.5) - np.float32(1.0)


def bilinear_matrix(size: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lower neighbour, upper neighbour, weight of the upper) of each of `side` pixel centres in a
    row of `size` pixels.
    """
    places = np.maximum((np.arange(side) + 0.5) * (size / side) - 0.5, 0.0)
    low = np.minimum(places.astype(int), size - 1)
    return low, np.minimum(low + 1, size - 1), (places - low).astype(np.float32)


def clean(image: UInt8[np.ndarray, "H W 3"], side: int) -> Float[np.ndarray, "y x 3"]:
    """clean-fid's: Pillow's antialiased bicubic of each channel in float, clipped to [0, 255];
    pixels become (x - 128) / 128.
    """
    channels = [
        Image.fromarray(image[..., c].astype(np.float32)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        for c in range(3)
    ]
    return (
        np.stack([np.asarray(c) for c in channels], -1).clip(0, 255) - np.float32(128)
    ) / np.float32(128)


def centre_crop(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "y x 3"]:
    """CLIP's: Pillow's bicubic in bytes makes the shorter side `side` pixels long, and the middle
    square is cut out.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    size = (int(side * width / short), int(side * height / short))
    picture = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


Resize = Callable[[UInt8[np.ndarray, "H W 3"], int], Float[np.ndarray, "y x 3"]]
RESIZES: dict[str, Resize] = {"pytorch_fid": pytorch_fid, "clean": clean}
