"""The trace of sampling: how pictures look at some moments between noise, or nothing, and the end.

A generator that samples step by step shows the clean picture that it predicts at each moment; a
generator that samples the codes one after another shows the codes so far. Positions that are not
known yet are grey. The last moment is the picture itself."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from vilg.report.grids import grid
from vilg.types import UserError

GREY = 128  # of pixels that are not known yet
ROWS = 16  # pictures in the strip and in the animation
MILLISECONDS = 160, 1_500  # of a frame, and of the last one


def moments(number: int, steps: int) -> list[int]:
    """The steps after which a trace of `number` frames looks, evenly spaced from 1 to `steps`.

    Errors: UserError for fewer than 2 frames, or more frames than steps."""
    if not 2 <= number <= steps:
        raise UserError(
            f"trace={number}: must be from 2 to {steps}, the steps in which this run samples a"
            " picture"
        )
    return [round(1 + i * (steps - 1) / (number - 1)) for i in range(number)]


def hide(
    images: UInt8[np.ndarray, "n H W 3"], known: Bool[np.ndarray, "n y x"]
) -> UInt8[np.ndarray, "n H W 3"]:
    """The pictures with grey pixels in the cells of codes that are not known yet."""
    factors = images.shape[1] // known.shape[1], images.shape[2] // known.shape[2]
    pixels = known.repeat(factors[0], 1).repeat(factors[1], 2)
    return np.where(pixels[..., None], images, np.uint8(GREY))


def write_trace(out: Path, traces: Sequence[Sequence[np.ndarray]]) -> list[Path]:
    """Writes trace.png, a row of frames for each picture, and trace.gif, in which all pictures
    move; at most ROWS pictures. Returns the files."""
    shown = traces[:ROWS]
    strip, animation = out / "trace.png", out / "trace.gif"
    columns = len(shown[0])
    grid(np.concatenate([np.stack(trace) for trace in shown]), columns=columns).save(strip)
    across = min(len(shown), 4)
    frames = [grid(np.stack(moment), columns=across) for moment in zip(*shown, strict=True)]
    usual, last = MILLISECONDS
    frames[0].save(
        animation,
        save_all=True,
        append_images=frames[1:],
        duration=[usual] * (len(frames) - 1) + [last],
        loop=0,
    )
    return [strip, animation]
