"""Features of pictures and texts: the interface of the networks that give them.

A metric of any network but FID's InceptionV3 bears the network's name."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped, UInt8


class Features(NamedTuple):
    """Features [n, d] of pictures, float32; if the network is a classifier, its probabilities
    [n, v] of classes.
    """

    features: Float[np.ndarray, "n d"]
    probabilities: Float[np.ndarray, "n v"] | None = None


@runtime_checkable
class Extractor(Protocol):
    """A network from pictures to features of `width` numbers.

    `rows` pictures are computed at once. `label` is the name in the names of metrics, "" for the
    network that defines them; `classes`: whether the network gives probabilities."""

    name: str
    label: str
    width: int
    rows: int
    classes: bool

    def prepare(self, image: UInt8[np.ndarray, "H W 3"]) -> np.ndarray:
        """A picture of any size as the network's input."""
        ...

    def start(self, batch: Shaped[np.ndarray, "n ..."]) -> Callable[[], Features]:
        """Starts on at most `rows` prepared pictures; a function that waits for their features."""
        ...

    def protocol(self) -> dict[str, Any]:
        """Everything on which the features depend, for the protocol of a score."""
        ...


@runtime_checkable
class TextExtractor(Extractor, Protocol):
    """An Extractor that gives features of texts too, all of length 1, so that products are cosines.
    `languages` are those that its texts may be in.
    """

    languages: tuple[str, ...]

    def texts(
        self, texts: Sequence[str], languages: Sequence[str]
    ) -> tuple[Float[np.ndarray, "n d"], int]:
        """(features of texts, the number of texts that were too long and were cut)."""
        ...


def features_of(extractor: Extractor, images: Sequence[np.ndarray]) -> Features:
    """The features of a few uint8 pictures."""
    parts = []
    for i in range(0, len(images), extractor.rows):
        batch = [extractor.prepare(image) for image in images[i : i + extractor.rows]]
        parts.append(extractor.start(np.stack(batch))())
    features, probabilities = zip(*parts, strict=True)
    return Features(
        np.concatenate(features), np.concatenate(probabilities) if extractor.classes else None
    )


def file_hash(path: str | Path) -> str:
    """16 hexadecimal digits of a file's SHA-256."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
