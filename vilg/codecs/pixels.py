"""Pixels: the codec of generators that work on pixels. Its latents are the image itself, `patch` x
`patch` pixels to a position.

It has nothing to learn: it is no Trainable, `init` gives the parameters {}, and no run has to train
it.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from vilg.config import require
from vilg.types import Model, Params


@dataclass(frozen=True)
class Pixels(Model):
    """Each position of the latents holds its patch's rows, columns and colours, in this order."""

    image_size: int  # rows and columns of a picture in pixels
    patch: int = 1  # rows and columns of pixels in one position; 1: plain pixels

    def __post_init__(self) -> None:
        require(self.patch > 0, "codec.patch", self.patch, "must be at least 1")
        divides = self.image_size > 0 and self.image_size % self.patch == 0
        require(
            divides,
            "codec.image_size",
            self.image_size,
            f"must be a multiple of patch={self.patch}",
        )

    @property
    def space(self) -> str:
        """Its own codes."""
        return "own"

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of positions."""
        side = self.image_size // self.patch
        return side, side

    @property
    def latent_channels(self) -> int:
        """Values of a patch."""
        return 3 * self.patch**2

    def init(self, key: Array) -> Params:
        """No parameters."""
        return {}

    def latents(self, params: Params, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x c"]:
        """The pixels, in patches."""
        return rearrange(images, "b (y p) (x q) c -> b y x (p q c)", p=self.patch, q=self.patch)

    def from_latents(
        self, params: Params, latents: Float[Array, "b y x c"]
    ) -> Float[Array, "b H W 3"]:
        """The image, clipped to [-1, 1]."""
        images = rearrange(latents, "b y x (p q c) -> b (y p) (x q) c", p=self.patch, q=self.patch)
        return jnp.clip(images, -1.0, 1.0)
