"""FID's InceptionV3 as an extractor."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from vilg.codecs.weights import read
from vilg.config import lookup
from vilg.frozen import Frozen
from vilg.metrics.resize import RESIZES
from vilg.nn import inception
from vilg.run.score.features import Features, file_hash
from vilg.types import Device, Params


class InceptionExtractor:
    """The features are the last pool (2,048 numbers), the probabilities those of 1,008 classes.
    `side`, the pixels of its input, is 299 outside of tests.
    """

    name, label, width, classes = "inception", "", inception.WIDTH, True

    def __init__(
        self,
        weights: str,
        resize: str,
        rows: int,
        side: int = inception.SIDE,
        devices: Sequence[Device] | None = None,
    ):
        self.resized = lookup(RESIZES, resize, "resize")
        self.resize, self.side = resize, side
        params = inception.from_state(read(weights, "weights"), weights)
        self.hash = file_hash(weights)

        def apply(
            params: Params, images: Float[Array, "b H W 3"]
        ) -> tuple[Float[Array, "b d"], Float[Array, "b v"]]:
            outputs: Any = inception.Inception().apply({"params": params}, images)
            features, logits = outputs
            return features, jax.nn.softmax(logits)

        self.network = Frozen(apply, params, rows, devices)
        self.rows = self.network.rows

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The picture, resized as the protocol says."""
        return self.resized(image, self.side)

    def start(self, batch: np.ndarray) -> Callable[[], Features]:
        """Starts on prepared pictures; features and probabilities."""
        wait = self.network(batch)
        return lambda: Features(*wait())

    def protocol(self) -> dict[str, Any]:
        """The weights, and how pictures are resized."""
        return {
            "name": self.name,
            "weights_hash": self.hash,
            "resize": f"{self.resize} to {self.side}x{self.side}",
            "precision": "float32",
            "probabilities": "softmax without bias",
        }
