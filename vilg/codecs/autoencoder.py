"""What the learned codecs share: encoder, decoder, the loss of a reconstruction, and the
discriminator that sharpens it.

    image [b H W 3] --encoder--> [b y x moments * d] --(vq.py, kl.py)--> [b y x d] --decoder-->
    features --output--> image

Separate from vq.py and kl.py, which say what lies between encoder and decoder and what that costs.
Parameters are {"encoder", "decoder", "output"} and, where it has a weight, "discriminator"; the
last convolution stands apart as "output" because the adversarial weight needs the gradient there.
Architectures are a table; adversarial.py routes gradients; scoring pictures is left to evals."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.codecs import perceptual
from vilg.codecs.adversarial import Adversary
from vilg.codecs.base import psnr
from vilg.codecs.blocks import convolution, run
from vilg.codecs.convolutional import Convolutional
from vilg.codecs.patch import Patch
from vilg.config import build_part, require
from vilg.parallel.constrain import constrain
from vilg.types import Model, Params

ARCHITECTURES = {"convolutional": Convolutional, "patch": Patch}
PICTURE = ("batch", "rows", "columns", None)


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Model, abc.ABC):
    """The fields are the config. `architecture` and `discriminator` are sections; the first has a
    "name" in ARCHITECTURES.

    l1, l2, perceptual_weight: weights of the loss terms. perceptual: path of LPIPS-VGG weights, ""
    leaves the term out."""

    PARTS: ClassVar[Mapping[str, Any]] = {
        "architecture": ARCHITECTURES,
        "discriminator": Adversary,
    }  # the classes of the sections
    role: ClassVar[str] = "codec"
    moments: ClassVar[int] = 1  # arrays of `width` channels that the encoder puts out

    image_size: int  # rows and columns of a picture in pixels
    # section of the encoder and decoder: "name" is one of ARCHITECTURES
    architecture: Any = field(default_factory=lambda: {"name": "patch"})
    # section of the adversarial loss; the default has none
    discriminator: Any = field(default_factory=dict)
    l1: float = 1.0  # weight of the absolute error in the loss
    l2: float = 0.0  # weight of the squared error in the loss
    perceptual: str = ""  # path of LPIPS-VGG weights; "" leaves the perceptual term out
    perceptual_weight: float = 1.0  # weight of the perceptual term in the loss
    # of activations; parameters and the optimizer's moments are float32
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name, kind in self.PARTS.items():
            object.__setattr__(self, name, build_part(kind, getattr(self, name), f"codec.{name}"))
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
        self._encoder()  # refuses sizes that do not go together
        if self.perceptual:
            perceptual.load(self.perceptual)  # refuses now what would fail in the first step
        if self.adversary.weight > 0:
            smallest = self.adversary.smallest()
            require(
                self.image_size >= smallest,
                "codec.discriminator.layers",
                self.adversary.layers,
                f"needs images of {smallest} px",
            )

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """Channels that the decoder takes."""

    @property
    def batch_multiple(self) -> int:
        """Any number of rows."""
        return 1

    @property
    def space(self) -> str:
        """Its own codes."""
        return "own"

    @property
    def reads_codes(self) -> bool:
        """A codec reads pictures."""
        return False

    @property
    def adversary(self) -> Adversary:
        return self.discriminator

    @property
    def grid(self) -> tuple[int, int]:
        return (self.image_size // self.architecture.downsample,) * 2

    @property
    def compute_dtype(self) -> Any:
        return jnp.dtype(self.dtype)

    def describe(self) -> dict[str, str]:
        """What is in the loss and what is left out, for the log and the report."""
        adversary = (
            f"weight {self.adversary.weight:g} from step"
            f" {self.adversary.start + self.adversary.warmup}"
        )
        return {
            "perceptual": (
                f"LPIPS-VGG from {self.perceptual}"
                if self.perceptual
                else "left out (no weights given)"
            ),
            "discriminator": adversary if self.adversary.weight > 0 else "left out (weight 0)",
        }

    def init(self, key: Array) -> Params:
        keys = jax.random.split(key, 5)  # the fourth is for what a codec adds
        image = jnp.zeros((1, self.image_size, self.image_size, 3))
        inner = jnp.zeros((1, *self.grid, self.width))
        decoder = self._decoder()
        features = jax.eval_shape(lambda k: decoder.init_with_output(k, inner)[0], keys[1])
        params = {
            "encoder": self._encoder().init(keys[0], image)["params"],
            "decoder": decoder.init(keys[1], inner)["params"],
            "output": self._output().init(keys[2], jnp.zeros(features.shape))["params"],
        }
        if self.adversary.weight > 0:
            params["discriminator"] = self.adversary.network().init(keys[4], image)["params"]
        return params

    def labels(self, params: Params) -> Any:
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
        inner: Float[Array, "b y x d"],
        regularizer: Array,
        step: Array,
    ) -> tuple[Array, dict[str, Any]]:
        """(the weighted terms of what `inner` decodes to + `regularizer` [+ adversarial], metrics),
        float32.
        """
        features = self._features(params, inner)
        decoded = self._paint(params["output"], features)

        def objective(decoded: Array) -> Array:
            return sum(self._terms(images, decoded).values(), jnp.float32(0))

        loss = objective(decoded) + regularizer
        metrics: dict[str, Any] = self._terms(images, decoded)
        metrics["psnr"] = psnr(jnp.mean(jnp.square(jnp.clip(decoded, -1, 1) - images)))
        if self.adversary.weight > 0:
            output, held = params["output"], jax.lax.stop_gradient(features)
            adversarial, more = self.adversary.loss(
                params["discriminator"],
                images,
                decoded,
                output["kernel"],
                lambda kernel: self._paint({"kernel": kernel, "bias": output["bias"]}, held),
                objective,
                step,
                self.compute_dtype,
            )
            loss, metrics = loss + adversarial, {**metrics, **more}
        return loss, metrics

    def _encoded(self, params: Params, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x d"]:
        """What the encoder puts out, float32."""
        encoded = run(self._encoder(), params["encoder"], constrain(images, *PICTURE))
        return constrain(encoded.astype(jnp.float32), "batch", "rows", "columns", None)

    def _decoded(self, params: Params, inner: Float[Array, "b y x d"]) -> Float[Array, "b H W 3"]:
        """Images, clipped to [-1, 1]."""
        return jnp.clip(self._paint(params["output"], self._features(params, inner)), -1.0, 1.0)

    def _terms(self, images: Array, decoded: Array) -> dict[str, Array]:
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

    def _features(self, params: Params, inner: Array) -> Array:
        return run(self._decoder(), params["decoder"], inner)

    def _paint(self, output: Params, features: Array) -> Float[Array, "b H W 3"]:
        return constrain(run(self._output(), output, features).astype(jnp.float32), *PICTURE)

    def _encoder(self) -> nn.Module:
        return self.architecture.encoder(
            self.image_size, self.width, self.compute_dtype, self.moments
        )

    def _decoder(self) -> nn.Module:
        return self.architecture.decoder(self.image_size, self.width, self.compute_dtype)

    def _output(self) -> nn.Module:
        size = self.architecture.output_size
        return convolution(3, size=size, padding=size // 2, dtype=self.compute_dtype)
