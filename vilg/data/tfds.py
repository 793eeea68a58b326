"""The `tfds` data source: any caption data set of TFDS by name, read through tfds.data_source
(ArrayRecord), without TensorFlow.

Paths such as "captions/text" map a data set's features to the record schema. TFDS has to build the
data set before: a missing one is an error that names the command."""

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
    """A TFDS data set. A path of a feature that is empty is the known one of the data set
    (DEFAULT_FIELDS), or the feature is not read.
    """

    dataset: str  # TFDS's name of the data set, such as coco_captions
    split: str = "train"  # TFDS's name of the split
    data_dir: str = ""  # where TFDS prepared it; "": its own default
    image: str = "image"  # path of the picture
    text: str = ""  # path of the captions: one string, or a sequence of strings
    id: str = ""  # path of the id
    boxes: str = ""  # path of boxes in TFDS's form: (ymin, xmin, ymax, xmax)
    labels: str = ""  # path of the boxes' labels
    language: str = ""  # of all captions; empty: the script of each caption decides

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
        """(builder, data source). Pictures come as the bytes of their files, so that `decode_image`
        decodes them as those of all other sources.
        """
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import read_only_builder

        where: dict[str, Any] = {"data_dir": str(local(self.data_dir))} if self.data_dir else {}
        try:
            builder = read_only_builder.builder_from_files(self.dataset, **where)
        # the data set is not prepared; its code may still be there, and says what is missing
        except Exception:
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
            open_split: Any = builder.as_data_source  # its type has no `split`
            return builder, open_split(split=self.split, decoders=decoders)
        except Exception as error:  # not prepared, prepared as tfrecord, or an unknown split
            raise UserError(
                f"tfds dataset={self.dataset!r} split={self.split!r}: {sentence(error)};"
                f" {self._remedy()}"
            ) from None

    def _remedy(self) -> str:
        """The way to build the data set, for messages."""
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
            values = {name: pick(row, path) for name, path in self.fields.items() if path}
        # a corrupt chunk or example raises RuntimeError, ValueError or DecodeError
        except Exception as error:
            raise BadRecord(id, f"record cannot be read: {type(error).__name__}: {error}") from None
        if "id" in values:
            value = values["id"]
            id = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        image, texts = values["image"], values["text"]
        if not isinstance(image, bytes):
            kind = type(image).__name__
            raise BadRecord(id, f"feature {self.image} is {kind}, not the bytes of a picture")
        texts = texts.tolist() if isinstance(texts, np.ndarray) else texts
        record: Record = {
            "id": id,
            "image": decode_image(id, image),
            "captions": captions(id, texts),
        }
        if self.language:
            record["captions"] = [
                {**caption, "language": self.language} for caption in record["captions"]
            ]
        if "boxes" in values:
            record["boxes"] = self._boxes(builder.info.features, values)
        return {
            **record,
            "source": builder.info.full_name,
            "license": builder.info.redistribution_info.license or "",
        }

    def _boxes(self, features: Any, values: dict[str, Any]) -> list[dict[str, Any]]:
        """The boxes of the schema. Integer labels become names where the feature has names."""
        from tensorflow_datasets.core.features import ClassLabel

        labels = list(values.get("labels", ()))
        path = self.fields["labels"]
        kind = feature(features, path) if path else None
        name_of = kind.int2str if isinstance(kind, ClassLabel) else str
        rows = np.asarray(values["boxes"]).reshape(-1, 4).tolist()
        return [
            {
                "xyxy": [left, top, right, bottom],
                "label": name_of(int(labels[k])) if k < len(labels) else "",
            }
            for k, (top, left, bottom, right) in enumerate(rows)
        ]


def sentence(error: Exception) -> str:
    """The message of an exception of TFDS in one line."""
    return " ".join(str(error).split("Available datasets")[0].split())[:300] or type(error).__name__


def feature(features: object, path: str) -> Any:
    """The feature of TFDS at a path such as "captions/text", also inside a sequence; None if there
    is none. A name that has slashes itself comes first.
    """
    from tensorflow_datasets.core.features import FeaturesDict, Sequence

    if isinstance(features, Sequence):
        features = features.feature
    if not isinstance(features, FeaturesDict):
        return None
    names = features.keys()  # a FeaturesDict has no `in`
    if path in names:
        found = features[path]
        return found.feature if isinstance(found, Sequence) else found
    name, _, rest = path.partition("/")
    return feature(features[name], rest) if rest and name in names else None


def pick(row: Any, path: str) -> Any:
    """The value at a path of one example; for a sequence of dicts, the list of their values."""
    if isinstance(row, list | tuple):
        return [pick(item, path) for item in row]
    if path in row:
        return row[path]
    name, _, rest = path.partition("/")
    return pick(row[name], rest)
