"""The `tfds` data source: any TFDS caption data set by name, read through tfds.data_source
(ArrayRecord), without TensorFlow.

Separate because it maps foreign features to the record schema by paths such as "captions/text".
Building a data set is left to TFDS: a data set that is not there is an error that names the
command."""

import functools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from vilg.config import require
from vilg.data.records import LANGUAGES, BadRecord, Lazy, Record, captions, decode_image
from vilg.paths import local
from vilg.types import UserError

DEFAULT_FIELDS = {
    "coco_captions": {
        "id": "image/id",
        "text": "captions/text",
        "boxes": "objects/bbox",
        "labels": "objects/label",
    }
}


@dataclass(frozen=True)
class TFDS(Lazy):
    """A TFDS data set. `image`, `text`, `id`, `boxes`, `labels` are paths of features; empty: as
    known for the data set, or none.

    `text` may be one string or a sequence; `language` empty: told from the text. `boxes` are TFDS's
    (ymin, xmin, ymax, xmax)."""

    dataset: str
    split: str = "train"
    data_dir: str = ""
    image: str = "image"
    text: str = ""
    id: str = ""
    boxes: str = ""
    labels: str = ""
    language: str = ""

    def __post_init__(self):
        require(
            bool(self.dataset), "dataset", self.dataset, "give a TFDS name such as coco_captions"
        )
        known = not self.language or self.language in LANGUAGES
        require(known, "language", self.language, f"must be empty or one of {', '.join(LANGUAGES)}")

    @functools.cached_property
    def fields(self) -> dict[str, str]:
        """The feature paths in use."""
        own = {
            "image": self.image,
            "text": self.text,
            "id": self.id,
            "boxes": self.boxes,
            "labels": self.labels,
        }
        known = DEFAULT_FIELDS.get(self.dataset.split("/")[0].split(":")[0], {"text": "caption"})
        return {name: path or known.get(name, "") for name, path in own.items()}

    @functools.cached_property
    def opened(self) -> tuple[Any, Any]:
        """(builder, data source); the pictures come as the bytes of their files, so that ours is
        the only decoder.
        """
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import read_only_builder

        where: dict[str, Any] = {"data_dir": str(local(self.data_dir))} if self.data_dir else {}
        try:
            builder = read_only_builder.builder_from_files(self.dataset, **where)
        except (
            Exception
        ):  # not prepared: the code of the data set may still be there, to say what is missing
            try:
                builder = tfds.builder(self.dataset, file_format="array_record", **where)
            except Exception as error:  # an unknown name, or code that needs TensorFlow
                raise UserError(
                    f"tfds dataset={self.dataset!r}: not prepared in"
                    f" {self.data_dir or 'the default data_dir'}, and TFDS says: {sentence(error)};"
                    f" {self._remedy()}"
                ) from None
        features: Any = builder.info.features
        for name, path in self.fields.items():
            if path and feature(features, path) is None:
                raise UserError(
                    f"tfds {name}={path!r}: no such feature of {self.dataset}; it has"
                    f" {', '.join(features or {})}"
                )
        decoders: Any = tfds.decode.SkipDecoding()
        for part in reversed(self.fields["image"].split("/")):
            decoders = {part: decoders}
        try:
            return builder, builder.as_data_source(split=self.split, decoders=decoders)  # type: ignore
        except Exception as error:  # not prepared, prepared as tfrecord, or an unknown split
            raise UserError(
                f"tfds dataset={self.dataset!r} split={self.split!r}: {sentence(error)};"
                f" {self._remedy()}"
            ) from None

    def _remedy(self) -> str:
        return (
            f"build it with tfds.builder({self.dataset!r},"
            " file_format='array_record').download_and_prepare() (some data sets need TensorFlow"
            " for that, reading does not) and name data_dir and one of its splits"
        )

    def content(self) -> str:
        """The data set's full name with version, its split and the fields read."""
        name = self.opened[0].info.full_name
        return f"tfds:{name}:{self.split}:{json.dumps(self.fields)}:{self.language}"

    def __len__(self) -> int:
        return len(self.opened[1])

    def __getitem__(self, i: int) -> Record:
        builder, rows = self.opened
        id = f"{builder.name}/{self.split}/{i}"
        try:
            row = rows[i]
            found = {name: pick(row, path) for name, path in self.fields.items() if path}
        except (
            Exception
        ) as error:  # a corrupt chunk or example: RuntimeError, ValueError, DecodeError
            raise BadRecord(id, f"record cannot be read: {type(error).__name__}: {error}") from None
        if "id" in found:
            value = found["id"]
            id = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        if not isinstance(found["image"], bytes):
            raise BadRecord(
                id,
                f"feature {self.image} is {type(found['image']).__name__}, not the bytes of a"
                " picture",
            )
        texts = found["text"].tolist() if isinstance(found["text"], np.ndarray) else found["text"]
        record = {
            "id": id,
            "image": decode_image(id, found["image"]),
            "captions": captions(id, texts),
        }
        if self.language:
            record["captions"] = [
                {**caption, "language": self.language} for caption in record["captions"]
            ]
        if "boxes" in found:
            record["boxes"] = self._boxes(builder.info.features, found)
        return {
            **record,
            "source": builder.info.full_name,
            "license": builder.info.redistribution_info.license or "",
        }

    def _boxes(self, features: Any, found: dict[str, Any]) -> list[dict[str, Any]]:
        labels = list(found.get("labels", ()))
        names = (
            getattr(feature(features, self.fields["labels"]), "int2str", str)
            if self.fields["labels"]
            else str
        )
        boxes = []
        for k, (top, left, bottom, right) in enumerate(
            np.asarray(found["boxes"]).reshape(-1, 4).tolist()
        ):
            boxes.append(
                {
                    "xyxy": [left, top, right, bottom],
                    "label": names(int(labels[k])) if k < len(labels) else "",
                }
            )
        return boxes


def sentence(error: Exception) -> str:
    """An exception as one line."""
    return " ".join(str(error).split("Available datasets")[0].split())[:300] or type(error).__name__


def feature(features: Any, path: str) -> Any:
    """The feature at a path such as "captions/text" (first as one key, for names with slashes),
    looking into sequences; or None.
    """
    features = getattr(features, "feature", features)  # a Sequence's inner feature
    if hasattr(features, "keys") and path in features.keys():  # noqa: SIM118 FeaturesDict has no `in`
        return getattr(features[path], "feature", features[path])
    first, _, rest = path.partition("/")
    if not rest or not hasattr(features, "keys") or first not in features.keys():  # noqa: SIM118
        return None
    return feature(features[first], rest)


def pick(row: Any, path: str) -> Any:
    """The value at a path of one example; in a sequence of dicts, the list of the values."""
    if isinstance(row, list | tuple):
        return [pick(item, path) for item in row]
    if path in row:
        return row[path]
    first, _, rest = path.partition("/")
    return pick(row[first], rest)
