"""Feature extractors: what turns pictures, and texts where it can, into the rows that vilg/metrics
compares.

Public networks read their weights from a file that the user gives; vilg ships none. A run of vilg's
own (a ranker) may serve too, but its numbers are nobody else's: metrics of any network but
InceptionV3 bear its name."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from vilg.codecs.weights import read
from vilg.config import lookup
from vilg.data.records import to_square
from vilg.frozen import Frozen
from vilg.metrics.resize import RESIZES, centre_crop
from vilg.nn import import_clip, inception
from vilg.types import UserError
from vilg.workdir.restore import fingerprint
from vilg.workdir.session import open_session

CLIP_MEAN = np.asarray(
    (0.48145466, 0.4578275, 0.40821073), np.float32
)  # of OpenAI's pictures; OpenCLIP's models are fed so too
CLIP_DEVIATION = np.asarray((0.26862954, 0.26130258, 0.27577711), np.float32)


class Features(NamedTuple):
    """Features [n, d] of pictures, float32, and where the network is a classifier, its class
    probabilities [n, v].
    """

    features: np.ndarray
    probabilities: np.ndarray | None = None


@runtime_checkable
class Extractor(Protocol):
    """Pictures -> features. `rows` pictures are computed at once; `label` is what metrics of it are
    called by ("" for the standard one).
    """

    name: str
    label: str
    width: int
    rows: int
    classes: bool  # whether it gives probabilities

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """One uint8 [H, W, 3] picture of any size as the network's input."""
        ...

    def start(self, batch: np.ndarray) -> Callable[[], Features]:
        """Starts on prepared pictures, at most `rows`; the function that waits for what comes
        out.
        """
        ...

    def protocol(self) -> dict[str, Any]:
        """What its features depend on."""
        ...


@runtime_checkable
class TextExtractor(Extractor, Protocol):
    """Has features of texts too, all of length 1, so that products are cosines."""

    languages: tuple[str, ...]  # that its texts may be in

    def texts(self, texts: Sequence[str], languages: Sequence[str]) -> tuple[np.ndarray, int]:
        """(features [n, d], how many texts were too long and were cut)."""
        ...


def of_images(extractor: Extractor, images: Sequence[np.ndarray]) -> Features:
    """The features of a few uint8 pictures."""
    parts = []
    for i in range(0, len(images), extractor.rows):
        parts.append(
            extractor.start(
                np.stack([extractor.prepare(image) for image in images[i : i + extractor.rows]])
            )()
        )
    features, probabilities = zip(*parts, strict=True)
    return Features(
        np.concatenate(features), np.concatenate(probabilities) if extractor.classes else None
    )


class Inception:
    """FID's network: the last pool (2,048 features) and probabilities of 1,008 classes. `side` is
    299 but in tests.
    """

    name, label, width, classes = "inception", "", inception.WIDTH, True

    def __init__(
        self,
        weights: str,
        resize: str,
        rows: int,
        side: int = inception.SIDE,
        devices: Sequence[jax.Device] | None = None,
    ):
        self._resize, self.resize, self.side = lookup(RESIZES, resize, "resize"), resize, side
        params = inception.from_state(read(weights, "weights"), weights)
        self.hash = file_hash(weights)

        def apply(params: Any, images: Any) -> Any:
            outputs: Any = inception.Inception().apply({"params": params}, images)
            features, logits = outputs
            return features, jax.nn.softmax(logits)

        self.network = Frozen(apply, params, rows, devices)
        self.rows = self.network.rows

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Resized as the protocol says."""
        return self._resize(image, self.side)

    def start(self, batch: np.ndarray) -> Callable[[], Features]:
        """Features and probabilities."""
        wait = self.network(batch)
        return lambda: Features(*wait())

    def protocol(self) -> dict[str, Any]:
        """Its weights and how pictures reach it."""
        how = f"{self.resize} to {self.side}x{self.side}"
        return {
            "name": self.name,
            "weights_hash": self.hash,
            "resize": how,
            "precision": "float32",
            "probabilities": "softmax without bias",
        }


class Clip:
    """A CLIPModel in Hugging Face's form; config.json and tokenizer.json lie beside the weights."""

    name, label, classes, languages = "clip", "clip", False, ("en",)

    def __init__(
        self,
        weights: str,
        rows: int,
        tokenizer: str = "",
        devices: Sequence[jax.Device] | None = None,
    ):
        state = read(weights, "weights")
        config = Path(weights).with_name("config.json")
        self.model = import_clip.from_config(read_config(config), str(config))
        self.width, self.side = self.model.width, self.model.vision.side
        params = import_clip.from_state(self.model, state, weights)
        self.hash = file_hash(weights)
        self.tokenizer_file = tokenizer or str(Path(weights).with_name("tokenizer.json"))
        self.network = Frozen(
            lambda p, x: self.model.apply({"params": p}, x, method="images"), params, rows, devices
        )
        self.text_network = Frozen(
            lambda p, x: self.model.apply({"params": p}, x, method="texts"), params, rows, devices
        )
        self.rows = self.network.rows

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The middle square, normalised."""
        return (centre_crop(image, self.side).astype(np.float32) / 255 - CLIP_MEAN) / CLIP_DEVIATION

    def start(self, batch: np.ndarray) -> Callable[[], Features]:
        """Features of length 1."""
        wait = self.network(batch)
        return lambda: Features(wait())

    def texts(self, texts: Sequence[str], languages: Sequence[str]) -> tuple[np.ndarray, int]:
        """Features of length 1; the languages are as they are."""
        ids, cut = token_ids(
            texts, self.tokenizer_file, self.model.text.length, self.model.text.vocabulary
        )
        rows = self.text_network.rows
        return (
            np.concatenate(
                [self.text_network(ids[i : i + rows])() for i in range(0, len(ids), rows)]
            ),
            cut,
        )

    def protocol(self) -> dict[str, Any]:
        """Its weights, its shape and how pictures reach it."""
        shape = f"ViT, {self.side} pixels, patch {self.model.vision.patch}, {self.width} features"
        how = f"shorter side to {self.side} (Pillow bicubic), centre crop"
        return {
            "name": self.name,
            "network": shape,
            "weights_hash": self.hash,
            "resize": how,
            "precision": "float32",
        }


class OwnRanker:
    """A run of vilg's own that embeds pictures and texts in one space."""

    label, classes, languages = "ranker", False, ("zh", "en")

    def __init__(self, session: Any, hash: str, workdir: str):
        self.session, self.workdir = session, workdir
        self.name = f"ranker:{hash}"
        self.side, self.rows = session.experiment.image_codec.image_size, session.batch
        self.width = session.embed_images(np.zeros((1, self.side, self.side, 3), np.uint8)).shape[1]

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The middle square, as the run's own data were read."""
        return to_square(image, self.side)

    def start(self, batch: np.ndarray) -> Callable[[], Features]:
        """Features of length 1."""
        found = Features(self.session.embed_images(batch))
        return lambda: found

    def texts(self, texts: Sequence[str], languages: Sequence[str]) -> tuple[np.ndarray, int]:
        """Features of length 1."""
        cut = sum(
            self.session.text_ids(text, language)[1]
            for text, language in zip(texts, languages, strict=True)
        )
        return self.session.embed_texts(texts, languages), cut

    def protocol(self) -> dict[str, Any]:
        """The run."""
        how = f"centre square to {self.side}x{self.side} (Lanczos)"
        return {
            "name": self.name,
            "workdir": self.workdir,
            "step": self.session.step,
            "resize": how,
        }


def ranker_extractor(workdir: str) -> OwnRanker:
    """The extractor of a ranker's run. Errors: UserError where the workdir is none."""
    session = open_session(workdir)
    return OwnRanker(session, fingerprint(session.params, session.program), workdir)


def file_hash(path: str | Path) -> str:
    """16 hexadecimal digits of a file's SHA-256."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read_config(path: Path) -> dict[str, Any]:
    """A network's config.json. Errors: UserError if it is not there or is no JSON."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"weights: {str(path)!r} cannot be read ({error}); put the model's config.json beside"
            " its weights"
        ) from None
    return found if isinstance(found, dict) else {}


def token_ids(
    texts: Sequence[str], file: str, length: int, vocabulary: int
) -> tuple[np.ndarray, int]:
    """(int32 [n, length] ids, padded with what follows the end, how many texts were cut) by a
    tokenizer.json.

    Errors: UserError where the file or the `tokenizers` package is missing, or its ids are not of
    this network."""
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
        tokenizer = Tokenizer.from_file(file)
    except Exception as error:  # the library raises a bare Exception
        raise UserError(
            f"clip_tokenizer={file!r}: is no tokenizer.json ({error}); give the model's"
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    cut = sum(len(e.ids) > length for e in tokenizer.encode_batch(list(texts)))
    tokenizer.enable_truncation(length)  # keeps the end
    rows = [e.ids for e in tokenizer.encode_batch(list(texts))]
    ids = np.stack(
        [np.pad(np.asarray(r, np.int32), (0, length - len(r)), mode="edge") for r in rows]
    )
    if ids.max() >= vocabulary:
        raise UserError(
            f"clip_tokenizer={file!r}: has id {ids.max()}, but the network knows {vocabulary}; give"
            " that model's tokenizer.json"
        )
    return ids, cut
