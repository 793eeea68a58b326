"""CLIP as an extractor of pictures and texts."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vilg.codecs.weights import read
from vilg.frozen import Frozen
from vilg.metrics.resize import centre_crop
from vilg.nn import import_clip
from vilg.run.score.features import Features, file_hash
from vilg.types import Device, UserError

# Mean and deviation of the channels of OpenAI's pictures; OpenCLIP's models are given them too.
MEAN = np.asarray((0.48145466, 0.4578275, 0.40821073), np.float32)
DEVIATION = np.asarray((0.26862954, 0.26130258, 0.27577711), np.float32)


class ClipExtractor:
    """A CLIPModel in Hugging Face's form, with config.json and tokenizer.json beside its
    weights.
    """

    name, label, classes, languages = "clip", "clip", False, ("en",)

    def __init__(
        self,
        weights: str,
        rows: int,
        tokenizer: str = "",
        devices: Sequence[Device] | None = None,
    ):
        state = read(weights, "weights")
        config = Path(weights).with_name("config.json")
        self.model = model = import_clip.from_config(read_config(config), str(config))
        self.width, self.side = model.width, model.vision.side
        params = import_clip.from_state(model, state, weights)
        self.hash = file_hash(weights)
        self.tokenizer_file = tokenizer or str(Path(weights).with_name("tokenizer.json"))
        self.network = Frozen(
            lambda p, x: model.apply({"params": p}, x, method="images"), params, rows, devices
        )
        self.text_network = Frozen(
            lambda p, x: model.apply({"params": p}, x, method="texts"), params, rows, devices
        )
        self.rows = self.network.rows

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The square in the middle of the picture, normalised."""
        return (centre_crop(image, self.side).astype(np.float32) / 255 - MEAN) / DEVIATION

    def start(self, batch: np.ndarray) -> Callable[[], Features]:
        """Starts on prepared pictures; features of length 1."""
        wait = self.network(batch)
        return lambda: Features(wait())

    def texts(
        self, texts: Sequence[str], languages: Sequence[str]
    ) -> tuple[Float[np.ndarray, "n d"], int]:
        """(features of length 1, the number of texts that were cut), whatever their languages."""
        text = self.model.text
        ids, cut = token_ids(texts, self.tokenizer_file, text.length, text.vocabulary)
        rows = self.text_network.rows
        parts = [self.text_network(ids[i : i + rows])() for i in range(0, len(ids), rows)]
        return np.concatenate(parts), cut

    def protocol(self) -> dict[str, Any]:
        """The network's shape, its weights, and how pictures are resized."""
        patch = self.model.vision.patch
        return {
            "name": self.name,
            "network": f"ViT, {self.side} pixels, patch {patch}, {self.width} features",
            "weights_hash": self.hash,
            "resize": f"shorter side to {self.side} (Pillow bicubic), centre crop",
            "precision": "float32",
        }


def read_config(path: Path) -> dict[str, object]:
    """A network's config.json. Errors: UserError if it cannot be read."""
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"weights: {str(path)!r} cannot be read ({error}); put the model's config.json beside"
            " its weights"
        ) from None
    return config if isinstance(config, dict) else {}


def token_ids(
    texts: Sequence[str], file: str, length: int, vocabulary: int
) -> tuple[Int[np.ndarray, "n {length}"], int]:
    """(int32 ids by a tokenizer.json, padded with the last id, the number of texts that were cut).

    Errors: UserError where the file or the package `tokenizers` is missing, or for an id that the
    network does not know."""
    tokenizer = open_tokenizer(file)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    cut = sum(len(e.ids) > length for e in tokenizer.encode_batch(list(texts)))
    tokenizer.enable_truncation(length)  # which keeps the end-of-text id
    rows = [np.asarray(e.ids, np.int32) for e in tokenizer.encode_batch(list(texts))]
    ids = np.stack([np.pad(row, (0, length - len(row)), mode="edge") for row in rows])
    if ids.max() >= vocabulary:
        raise UserError(
            f"clip_tokenizer={file!r}: has id {ids.max()}, but the network knows {vocabulary}; give"
            " that model's tokenizer.json"
        )
    return ids, cut


def open_tokenizer(file: str) -> Any:
    """The tokenizer of a tokenizer.json. Errors: UserError where the file or the package
    `tokenizers` is missing.
    """
    try:
        from tokenizers import Tokenizer  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        raise UserError(
            "clip_tokenizer: reading it needs the package tokenizers; pip install tokenizers"
        ) from None
    if not Path(file).is_file():
        raise UserError(
            f"clip_tokenizer={file!r}: there is no such file; give the model's tokenizer.json"
        )
    try:
        return Tokenizer.from_file(file)
    except Exception as error:  # the library raises Exception itself
        raise UserError(
            f"clip_tokenizer={file!r}: is no tokenizer.json ({error}); give the model's"
        ) from None
