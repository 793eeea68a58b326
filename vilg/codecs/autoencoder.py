"""The common parts of the learned codecs: encoder, decoder, the loss of a reconstruction, and the
discriminator that sharpens it.

    image [b H W 3] --encoder--> [b y x moments * d] --(vq.py, kl.py)--> [b y x d] --decoder-->
    features --output--> image

Separate from vq.py and kl.py, which say what lies between encoder and decoder and what that costs.
Parameters are {"encoder", "decoder", "output"} and, where it has a weight, "discriminator". The
last convolution stands apart as "output" because the adversarial weight needs the gradient there.
ARCHITECTURES is the table of encoders and decoders; adversarial.py routes gradients; the scores of
reconstructions are computed by evals/reconstruction.py.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.codecs import perceptual
from vilg.codecs.adversarial import Adversary
from vilg.codecs.base import psnr
from vilg.codecs.blocks import convolution, run
from vilg.codecs.convolutional import Convolutional
from vilg.codecs.patch import Patch
from vilg.config import Section, build_part, require, section
from vilg.nn.dense import DTYPES, Dtype
from vilg.parallel.constrain import constrain
from vilg.types import Model, Params


class Architecture(Protocol):
    """An entry of ARCHITECTURES: a frozen dataclass of config fields."""

    @property
    def downsample(self) -> int:
        """Pixels a side of the square that becomes one position."""
        ...

    @property
    def output_size(self) -> int:
        """The kernel size of the codec's last convolution."""
        ...

    def encoder(
        self, image_size: int, code_width: int, dtype: DTypeLike, moments: int = 1
    ) -> nn.Module:
        """The network from images [b H W 3] to [b y x moments * code_width]."""
        ...

    def decoder(self, image_size: int, code_width: int, dtype: DTypeLike) -> nn.Module:
        """The network from [b y x code_width] to features [b H W c]."""
        ...


ARCHITECTURES: dict[str, type[Convolutional] | type[Patch]] = {
    "convolutional": Convolutional,
    "patch": Patch,
}
IMAGE = ("batch", "rows", "columns", None)


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Model, abc.ABC):
    """The fields are the config. `architecture` and `discriminator` may be given as sections; the
    first has a "name" in ARCHITECTURES.
    """

    PARTS: ClassVar[Mapping[str, Any]] = {
        "architecture": ARCHITECTURES,
        "discriminator": Adversary,
    }
    role: ClassVar[str] = "codec"
    moments: ClassVar[int] = 1  # arrays of `width` channels that the encoder puts out

    image_size: int  # rows and columns of a picture in pixels
    # section of the encoder and decoder: "name" is one of ARCHITECTURES
    architecture: Section[Architecture] = section(name="patch")
    # section of the adversarial loss; the default has none
    discriminator: Section[Adversary] = section()
    l1: float = 1.0  # weight of the absolute error in the loss
    l2: float = 0.0  # weight of the squared error in the loss
    perceptual: str = ""  # path of LPIPS-VGG weights; "" leaves the perceptual term out
    perceptual_weight: float = 1.0  # weight of the perceptual term in the loss
    # of activations; parameters and the optimizer's moments are float32
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        for name, kind in self.PARTS.items():
            part = build_part(kind, getattr(self, name), f"codec.{name}")
            object.__setattr__(self, name, part)
        require(self.image_size > 0, "codec.image_size", self.image_size, "must be at least 1")
        factor = self.architecture.downsample
        require(
            self.image_size % factor == 0,
            "codec.image_size",
            self.image_size,
            f"must be a multiple of the codec's factor {factor}",
        )
        require(
            self.l1 + self.l2 > 0,
            "codec.l1",
            self.l1,
            "l1 and l2 are both 0: give one of them a weight",
        )
        self._encoder()  # raises an error for sizes that do not fit together
        if self.perceptual:
            perceptual.load(self.perceptual)  # raises an error that would come at the first step
        if self.discriminator.weight > 0:
            smallest = self.discriminator.smallest_image()
            require(
                self.image_size >= smallest,
                "codec.discriminator.layers",
                self.discriminator.layers,
                f"needs images of {smallest} px",
            )

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """Channels that the decoder takes."""

    @property
    def space(self) -> str:
        """Its own codes."""
        return "own"

    @property
    def reads_codes(self) -> bool:
        """A codec reads pictures."""
        return False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of positions."""
        side = self.image_size // self.architecture.downsample
        return side, side

    def describe(self) -> dict[str, str]:
        """The terms of the loss, and those that are left out, for the log and the report."""
        adversary = self.discriminator
        return {
            "perceptual": (
                f"LPIPS-VGG from {self.perceptual}"
                if self.perceptual
                else "left out (no weights given)"
            ),
            "discriminator": (
                f"weight {adversary.weight:g} from step {adversary.start + adversary.warmup}"
                if adversary.weight > 0
                else "left out (weight 0)"
            ),
        }

    def init(self, key: Array) -> Params:
        """Boxed parameters."""
        keys = jax.random.split(key, 5)  # the fourth is for the parameters that a subclass adds
        image = jnp.zeros((1, self.image_size, self.image_size, 3))
        latents = jnp.zeros((1, *self.grid, self.width))
        decoder = self._decoder()
        features = jax.eval_shape(lambda k: decoder.init_with_output(k, latents)[0], keys[1])
        params = {
            "encoder": self._encoder().init(keys[0], image)["params"],
            "decoder": decoder.init(keys[1], latents)["params"],
            "output": self._output().init(keys[2], jnp.zeros(features.shape))["params"],
        }
        if self.discriminator.weight > 0:
            params["discriminator"] = self.discriminator.network().init(keys[4], image)["params"]
        return params

    def labels(self, params: Params) -> Params:
        """For every parameter "generator" or "discriminator": the published training gives each its
        own optimizer.
        """
        return {
            k: jax.tree.map(
                lambda _, k=k: "discriminator" if k == "discriminator" else "generator", v
            )
            for k, v in params.items()
        }

    def reconstruction(
        self,
        params: Params,
        images: Float[Array, "b H W 3"],
        latents: Float[Array, "b y x d"],
        regularizer: Array,
        step: Array,
    ) -> tuple[Array, dict[str, Any]]:
        """(the weighted terms of the image that `latents` decode to + `regularizer` [+ the
        adversarial loss], metrics), float32.
        """
        features = self._features(params, latents)
        decoded = self._to_image(params["output"], features)

        def reconstruction_loss(decoded: Array) -> Array:
            return sum(self._loss_terms(images, decoded).values(), jnp.float32(0))

        loss = reconstruction_loss(decoded) + regularizer
        metrics: dict[str, Any] = self._loss_terms(images, decoded)
        metrics["psnr"] = psnr(jnp.mean(jnp.square(jnp.clip(decoded, -1, 1) - images)))
        if self.discriminator.weight > 0:
            output, held = params["output"], jax.lax.stop_gradient(features)
            adversarial, more = self.discriminator.loss(
                params["discriminator"],
                images,
                decoded,
                output["kernel"],
                lambda kernel: self._to_image({"kernel": kernel, "bias": output["bias"]}, held),
                reconstruction_loss,
                step,
                DTYPES[self.dtype],
            )
            loss, metrics = loss + adversarial, {**metrics, **more}
        return loss, metrics

    def _encoded(self, params: Params, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x d"]:
        """The encoder's output, float32."""
        encoded = run(self._encoder(), params["encoder"], constrain(images, *IMAGE))
        return constrain(encoded.astype(jnp.float32), "batch", "rows", "columns", None)

    def _decoded(self, params: Params, latents: Float[Array, "b y x d"]) -> Float[Array, "b H W 3"]:
        """Images, clipped to [-1, 1]."""
        return jnp.clip(
            self._to_image(params["output"], self._features(params, latents)), -1.0, 1.0
        )

    def _loss_terms(self, images: Array, decoded: Array) -> dict[str, Array]:
        terms = {}
        if self.l1 > 0:
            terms["l1"] = self.l1 * jnp.mean(jnp.abs(decoded - images))
        if self.l2 > 0:
            terms["l2"] = self.l2 * jnp.mean(jnp.square(decoded - images))
        if self.perceptual:
            terms["perceptual"] = self.perceptual_weight * jnp.mean(
                perceptual.load(self.perceptual)(images, decoded)
            )
        return terms

    def _features(
        self, params: Params, latents: Float[Array, "b y x d"]
    ) -> Float[Array, "b H W c"]:
        """The decoder's output before the last convolution."""
        return run(self._decoder(), params["decoder"], latents)

    def _to_image(
        self, output: Params, features: Float[Array, "b H W c"]
    ) -> Float[Array, "b H W 3"]:
        """Images from features, by the last convolution; not clipped."""
        return constrain(run(self._output(), output, features).astype(jnp.float32), *IMAGE)

    def _encoder(self) -> nn.Module:
        return self.architecture.encoder(
            self.image_size, self.width, DTYPES[self.dtype], self.moments
        )

    def _decoder(self) -> nn.Module:
        return self.architecture.decoder(self.image_size, self.width, DTYPES[self.dtype])

    def _output(self) -> nn.Module:
        size = self.architecture.output_size
        return convolution(3, size=size, padding=size // 2, dtype=DTYPES[self.dtype])
