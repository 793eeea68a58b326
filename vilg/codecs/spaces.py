"""Spaces: what a generator draws, as seen through the codec. `ids` are a tokenizer's codes,
`latents` floats of zero mean and unit variance.

Separate from the codecs, because whether a generator wants ids or floats is the generator's
question: a VQ codec serves both. The scale of latents is measured from data when a run starts
(`measure`), stored with the run, and part of its frozen parameters, so that a codec that was
trained again cannot be decoded with another's scale. SPACES is the table that a generator's `space`
resolves through."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Float

from vilg.types import Codec, Params, Tokenizer, UserError


class Space:
    """What a model reads or draws, as seen through its codec."""

    scaled: ClassVar[bool] = False  # whether a scale is measured from the data

    def encode(self, frozen: Params, images: Float[Array, "b H W 3"]) -> Array:
        """The codes of images in [-1, 1]."""
        raise AssertionError(f"{type(self).__name__} does not encode")

    def decode(self, frozen: Params, codes: Array) -> Float[Array, "b H W 3"]:
        """Images in [-1, 1]."""
        raise AssertionError(f"{type(self).__name__} does not decode")

    def freeze(self, params: Params, scale: Mapping[str, Sequence[float]] | None) -> Params:
        """The frozen parameters of this space, from the codec's."""
        return params

    def measure(self, latents: Float[np.ndarray, "n y x c"]) -> dict[str, list[float]]:
        """The scale of latents; only of a space that is scaled."""
        raise AssertionError(f"{type(self).__name__} has no scale")


@dataclasses.dataclass(frozen=True)
class Ids(Space):
    """Codes are a tokenizer's ids, int32 [b y x]; the frozen parameters are the codec's."""

    codec: Any  # a Tokenizer, or it is refused

    def __post_init__(self) -> None:
        if not isinstance(self.codec, Tokenizer):
            raise UserError(
                f"codec.name: {type(self.codec).__name__} has no ids, and this generator draws ids;"
                " give a tokenizer such as 'vq', or a generator of latents"
            )

    def encode(self, frozen: Params, images: Float[Array, "b H W 3"]) -> Any:
        """The codes of images in [-1, 1]."""
        return self.codec.encode(frozen, images)

    def decode(self, frozen: Params, codes: Any) -> Float[Array, "b H W 3"]:
        """Images in [-1, 1]."""
        return self.codec.decode(frozen, codes)


@dataclasses.dataclass(frozen=True)
class Raw(Space):
    """Codes are the codec's latents as they are, float32 [b y x c]: what a codec's own run looks at
    where it has no ids.
    """

    codec: Codec

    def encode(self, frozen: Params, images: Float[Array, "b H W 3"]) -> Any:
        """The latents of images in [-1, 1]."""
        return self.codec.latents(frozen, images)

    def decode(self, frozen: Params, codes: Any) -> Float[Array, "b H W 3"]:
        """Images in [-1, 1]."""
        return self.codec.from_latents(frozen, codes)


@dataclasses.dataclass(frozen=True)
class Latents(Space):
    """Codes are the codec's latents, each channel less its mean and over its standard deviation:
    {"codec", "mean", "std"} are frozen.
    """

    codec: Codec
    scaled: ClassVar[bool] = True

    def encode(self, frozen: Params, images: Float[Array, "b H W 3"]) -> Any:
        """The scaled latents of images in [-1, 1]."""
        return (self.codec.latents(frozen["codec"], images) - frozen["mean"]) / frozen["std"]

    def decode(self, frozen: Params, codes: Any) -> Float[Array, "b H W 3"]:
        """Images in [-1, 1]."""
        return self.codec.from_latents(frozen["codec"], codes * frozen["std"] + frozen["mean"])

    def freeze(self, params: Params, scale: Mapping[str, Sequence[float]] | None) -> Params:
        """The frozen parameters of this space, from the codec's and the measured scale (the
        identity where there is none yet).
        """
        c = self.codec.latent_channels
        scale = scale or {"mean": [0.0] * c, "std": [1.0] * c}
        return {"codec": params, **{k: np.asarray(scale[k], np.float32) for k in ("mean", "std")}}

    def measure(self, latents: Float[np.ndarray, "n y x c"]) -> dict[str, list[float]]:
        """Mean and standard deviation of each channel over encoded pictures.

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


def natural(codec: Codec) -> Space:
    """The space of a codec's own run: ids where it has them, else its latents as they are."""
    return Ids(codec) if isinstance(codec, Tokenizer) else Raw(codec)


SPACES: dict[str, Callable[[Codec], Space]] = {"ids": Ids, "latents": Latents, "own": natural}
