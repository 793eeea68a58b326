"""Spaces: the codes of images that a model reads or draws, as seen through a codec. "ids" are a
tokenizer's codes, "latents" are floats of zero mean and unit variance.

Separate from the codecs, because the choice between ids and floats is the generator's: a VQ codec
serves both. The scale of latents is measured from data when a run starts (`measure`), is stored
with the run, and is part of its frozen parameters, so that no codec that was trained again is
decoded with another codec's scale. SPACES is the table of Model.space.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float, Int

from vilg.types import Codec, Params, Tokenizer, UserError

Scale = Mapping[str, Sequence[float]]  # {"mean", "std"} of each channel


class Space(abc.ABC):
    """The codes of one codec that a model reads or draws."""

    scaled: ClassVar[bool] = False  # whether a scale is measured from the data

    @abc.abstractmethod
    def encode(self, frozen: Params, images: Float[Array, "b H W 3"]) -> Array:
        """The codes of images in [-1, 1]."""

    @abc.abstractmethod
    def decode(self, frozen: Params, codes: Array) -> Float[Array, "b H W 3"]:
        """Images in [-1, 1]."""

    def freeze(self, params: Params, scale: Scale | None) -> Params:
        """The frozen parameters of this space, from the codec's."""
        return params

    def measure(self, latents: Float[np.ndarray, "n y x c"]) -> Scale:
        """The scale of latents; asked only of a space that is `scaled`."""
        raise AssertionError(f"{type(self).__name__} has no scale")


@dataclasses.dataclass(frozen=True)
class Ids(Space):
    """A tokenizer's ids, int32 [b y x]. The frozen parameters are the codec's."""

    codec: Tokenizer

    def encode(self, frozen: Params, images: Float[Array, "b H W 3"]) -> Int[Array, "b y x"]:
        return self.codec.encode(frozen, images)

    def decode(self, frozen: Params, codes: Int[Array, "b y x"]) -> Float[Array, "b H W 3"]:
        return self.codec.decode(frozen, codes)


@dataclasses.dataclass(frozen=True)
class Raw(Space):
    """The codec's latents as they are, float32 [b y x c]: the space of a codec's own run where it
    has no ids.
    """

    codec: Codec

    def encode(self, frozen: Params, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x c"]:
        return self.codec.latents(frozen, images)

    def decode(self, frozen: Params, codes: Float[Array, "b y x c"]) -> Float[Array, "b H W 3"]:
        return self.codec.from_latents(frozen, codes)


@dataclasses.dataclass(frozen=True)
class Latents(Space):
    """The codec's latents, each channel less its mean and over its standard deviation, float32
    [b y x c]. The frozen parameters are {"codec", "mean", "std"}.
    """

    codec: Codec
    scaled: ClassVar[bool] = True

    def encode(self, frozen: Params, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x c"]:
        return (self.codec.latents(frozen["codec"], images) - frozen["mean"]) / frozen["std"]

    def decode(self, frozen: Params, codes: Float[Array, "b y x c"]) -> Float[Array, "b H W 3"]:
        return self.codec.from_latents(frozen["codec"], codes * frozen["std"] + frozen["mean"])

    def freeze(self, params: Params, scale: Scale | None) -> Params:
        """The frozen parameters, from the codec's and the measured scale (None: the identity)."""
        c = self.codec.latent_channels
        scale = scale or {"mean": [0.0] * c, "std": [1.0] * c}
        return {"codec": params, **{k: np.asarray(scale[k], np.float32) for k in ("mean", "std")}}

    def measure(self, latents: Float[np.ndarray, "n y x c"]) -> Scale:
        """The mean and the standard deviation of each channel over the latents of images.

        Errors: UserError for a codec whose latents do not vary.
        """
        flat = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
        std = flat.std(0)
        if not np.all(np.isfinite(std)) or std.max() < 1e-6:
            raise UserError(
                f"codec: its latents have standard deviation {std.max():.2g} over the data; train"
                " the codec longer"
            )
        return {
            "mean": flat.mean(0).round(6).tolist(),
            "std": np.maximum(std, 1e-3 * std.max()).round(6).tolist(),
        }


def ids_of(codec: Codec) -> Ids:
    """The ids of a codec. Errors: UserError for a codec without ids."""
    if not isinstance(codec, Tokenizer):
        raise UserError(
            f"codec.name: {type(codec).__name__} has no ids, and this generator draws ids;"
            " give a tokenizer such as 'vq', or a generator of latents"
        )
    return Ids(codec)


def own_space(codec: Codec) -> Space:
    """The space of a codec's own run: its ids, or its latents as they are where it has no ids."""
    return Ids(codec) if isinstance(codec, Tokenizer) else Raw(codec)


SPACES: dict[str, Callable[[Codec], Space]] = {
    "ids": ids_of,
    "latents": Latents,
    "own": own_space,
}
