"""A dual encoder of pictures and texts (CLIP, arXiv 2103.00020), trained on the same records as a
generator: the ranker of this package.

    codes --image encoder--> [b d] --projection, unit length--> image features [b p]
    text ids --text encoder--> [b d] --projection, unit length--> text features [b p]
    image and text features --scale * cosines--> [b b] --> symmetric InfoNCE

The class is a Trainable and a Ranker, but no Generator. Its features are comparable in both
directions: it can choose among pictures of one text (`vilg sample --best_of`) and among texts of
one picture."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vilg.config import build_part, require
from vilg.nn.image_encoder import ImageEncoderConfig
from vilg.nn.text_encoder import TextEncoderConfig
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain
from vilg.types import Batch, Metrics, Model, Params

LARGEST_SCALE = 100.0  # the limit of the scale in CLIP, section 2.5


@dataclasses.dataclass(frozen=True)
class DualEncoder(Model):
    """The ranker; its fields are the config. Implements Trainable, Ranker and Embedder."""

    grid: tuple[int, int]  # given by the codec
    latent_channels: int  # given by the codec
    text_vocabulary: int  # given by data.text
    text_length: int  # given by data.text
    image: Any = dataclasses.field(default_factory=dict)  # section of the image encoder
    text: Any = dataclasses.field(default_factory=dict)  # section of the text encoder
    projection: int = 128  # length of the features
    first_scale: float = 1 / 0.07  # initial value of the learned scale of the cosines (CLIP)

    # the classes of the sections
    PARTS: ClassVar[Mapping[str, Any]] = {"image": ImageEncoderConfig, "text": TextEncoderConfig}
    role: ClassVar[str] = "ranker"
    compares_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, kind in self.PARTS.items():
            object.__setattr__(
                self, name, build_part(kind, getattr(self, name), f"generator.{name}")
            )
        require(self.projection > 0, "generator.projection", self.projection, "must be at least 1")
        fits = 0 < self.first_scale <= LARGEST_SCALE
        require(
            fits, "generator.first_scale", self.first_scale, f"must lie in (0, {LARGEST_SCALE:g}]"
        )
        _ = self._image, self._text  # building the parts refuses fields that do not fit together

    @property
    def inputs(self) -> tuple[str, ...]:
        """Pictures and texts."""
        return ("image", "text")

    @functools.cached_property
    def _image(self) -> Any:
        return self.image.module(self.grid)

    @functools.cached_property
    def _text(self) -> Any:
        return self.text.module(self.text_vocabulary, self.text_length)

    def init(self, key: Array) -> Params:
        """Boxed parameters: the towers "image" and "text", their projections, and "log_scale"."""
        keys = jax.random.split(key, 4)
        codes = jnp.zeros((1, *self.grid, self.latent_channels))
        ids = jnp.zeros((1, self.text_length), jnp.int32)

        def projection(key: Array, width: int) -> Any:
            return named(jax.nn.initializers.normal(width**-0.5), "embed", None)(
                key, (width, self.projection)
            )

        return {
            "image": self._image.init(keys[0], codes)["params"],
            "text": self._text.init(keys[1], ids)["params"],
            "image_projection": projection(keys[2], self.image.width),
            "text_projection": projection(keys[3], self.text.width),
            "log_scale": named(jax.nn.initializers.constant(math.log(self.first_scale)))(
                keys[0], ()
            ),
        }

    def embed_images(self, params: Params, codes: Float[Array, "b y x c"]) -> Float[Array, "b p"]:
        """Features of pictures, float32 of unit length."""
        pooled = self._image.apply({"params": params["image"]}, codes)
        return self._unit_features(pooled, params["image_projection"])

    def embed_texts(self, params: Params, text: Int[Array, "b m"]) -> Float[Array, "b p"]:
        """Features of texts, float32 of unit length."""
        _, pooled = self._text.apply({"params": params["text"]}, text)
        return self._unit_features(pooled, params["text_projection"])

    def _unit_features(
        self, pooled: Float[Array, "b d"], projection: Float[Array, "d p"]
    ) -> Float[Array, "b p"]:
        features = pooled.astype(jnp.float32) @ projection
        squares = jnp.sum(jnp.square(features), -1, keepdims=True)
        return constrain(features * jax.lax.rsqrt(squares + 1e-12), "batch", None)

    def scale(self, params: Params) -> Float[Array, ""]:
        """The factor of the cosines, at most LARGEST_SCALE. The gradient passes the limit, so that
        the scale can come down again (CLIP clips the parameter after each update instead)."""
        log_scale = params["log_scale"]
        excess = jnp.maximum(log_scale - math.log(LARGEST_SCALE), 0.0)
        return jnp.exp(log_scale - jax.lax.stop_gradient(excess))

    def loss(self, params: Params, batch: Batch, key: Array, step: Array) -> tuple[Array, Metrics]:
        """Symmetric InfoNCE over the global batch (`contrast`). The metric `matched` is the share
        of pairs whose similarity is larger than that of either partner with every other row."""
        images = self.embed_images(params, batch["codes"])
        texts = self.embed_texts(params, batch["text"])
        scale = self.scale(params)
        to_text, to_image, matched = contrast(scale * images @ texts.T, equal_texts(batch["text"]))
        return (to_text + to_image) / 2, {
            "image_to_text": to_text,
            "text_to_image": to_image,
            "matched": matched,
            "scale": scale,
        }

    def agreement(self, params: Params, text: Int[Array, "b m"], codes: Any) -> Float[Array, " b"]:
        """The scale times the cosine of each picture and its text."""
        return self.scale(params) * jnp.sum(
            self.embed_images(params, codes) * self.embed_texts(params, text), -1
        )


def equal_texts(text: Int[Array, "b m"]) -> Any:
    """Whether the ids of two rows are equal, bool [b, b]."""
    return jnp.all(text[:, None] == text[None], -1)


def contrast(logits: Float[Array, "b b"], same: Any) -> tuple[Array, Array, Array]:
    """The symmetric InfoNCE terms of similarities of pictures (rows) and texts (columns).

    Returns the mean cross-entropy of the own text among the texts, that of the own picture among
    the pictures, and the share of pairs that beat all negatives of both.

    Rows whose texts are the `same` (bool [b, b]) are not negatives of each other: captions repeat,
    and a picture fits another record's equal caption as well as its own. Their similarities are
    left out of the sums, so that the own pair stays the only target."""
    own = jnp.eye(logits.shape[0], dtype=bool)
    diagonal = jnp.sum(jnp.where(own, logits, 0.0), 1)
    logits = constrain(jnp.where(same & ~own, -jnp.inf, logits), "batch", None)
    others = jnp.where(own, -jnp.inf, logits)
    matched = (diagonal > others.max(1)) & (diagonal > others.max(0))
    to_text, to_image = (jnp.mean(jax.nn.logsumexp(logits, axis) - diagonal) for axis in (1, 0))
    return to_text, to_image, jnp.mean(matched.astype(jnp.float32))
