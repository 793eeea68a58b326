"""A grid of pictures as one picture."""

import numpy as np
from PIL import Image


def grid(images: np.ndarray, columns: int = 8, gap: int = 2, scale: int = 0) -> Image.Image:
    """Pictures, uint8 [n, H, W, 3], as one picture, row by row, with `gap` pixels between them.

    Each picture is enlarged by the integer factor `scale`; 0 chooses the factor that makes small
    pictures about 96 pixels high."""
    images = np.asarray(images)
    n, height, width, _ = images.shape
    scale = scale or max(1, 96 // height)
    images = images.repeat(scale, 1).repeat(scale, 2)
    height, width = height * scale, width * scale
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return Image.fromarray(sheet)
