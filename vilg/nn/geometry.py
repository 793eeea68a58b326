"""The geometry of attention: the stream [text ; image in raster order], the direction in which it
is modelled, and the pattern by which image positions see each other.

Separate from patterns.py, where a pattern relates image positions alone: here text comes in, and
the mask of a whole layer. In memory text always comes first; a direction only chooses the mask.

text_to_image: a text position sees all text; an image position sees all text and the causal set of
its pattern (as in DALL-E; PAPERS 2.2). image_to_text: an image position sees the two-sided set of
its pattern and no text; a text position sees the whole image and the text up to itself.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from vilg.config import lookup, require
from vilg.nn.patterns import Grid, Pattern

DIRECTIONS = ("text_to_image", "image_to_text")
Directions = str | tuple[tuple[str, int], ...]
"""The direction of all rows of a batch, or ((direction, rows), ...): how many rows of each group of
rows have which direction."""


@dataclass(frozen=True)
class Geometry:
    """Which positions of one layer attend to which. `grid` is rows x columns of image positions.

    Errors: UserError for an unknown direction, or a grid that is not two positive whole numbers.
    """

    pattern: Pattern
    direction: str
    text_length: int
    grid: Grid

    def __post_init__(self) -> None:
        check_direction(self.direction)
        check_grid(self.grid)

    @property
    def image_length(self) -> int:
        """Positions of the image."""
        return self.grid[0] * self.grid[1]

    @property
    def length(self) -> int:
        """Positions of the whole stream."""
        return self.text_length + self.image_length

    @property
    def image_is_target(self) -> bool:
        """Whether the text is the source and the image the target."""
        return self.direction == "text_to_image"

    def mask(self) -> Bool[np.ndarray, "l l"]:
        """Whether each query (first axis) sees each key (second axis) of the stream."""
        text, image = np.arange(self.text_length), np.arange(self.image_length)
        image_image = self.pattern.sees(self.direction, image[:, None], image[None, :], self.grid)
        text_text = (
            np.ones((self.text_length, self.text_length), bool)
            if self.image_is_target
            else text[None, :] <= text[:, None]
        )
        image_text = np.full((self.image_length, self.text_length), self.image_is_target)
        return np.block([[text_text, ~image_text.T], [image_text, image_image]])


def check_direction(direction: str) -> None:
    """Raises a UserError for an unknown direction."""
    lookup(dict.fromkeys(DIRECTIONS), direction, "direction")


def check_grid(grid: Grid) -> None:
    """Raises a UserError unless the grid is two positive whole numbers."""
    valid = len(grid) == 2 and all(
        isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in grid
    )
    require(valid, "grid", grid, "must be (rows, columns), two positive whole numbers")
