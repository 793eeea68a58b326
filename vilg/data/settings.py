"""The section `data` of an experiment, and its part `text`."""

import dataclasses

from vilg.config import require
from vilg.data.knowledge import Knowledge
from vilg.data.loader import Loader
from vilg.data.sources import Source


@dataclasses.dataclass(frozen=True)
class Text:
    """The text model to train from the captions: `vocabulary` ids at most, rows of `length` ids."""

    vocabulary: int = 512  # ids of the text model at most, 256 bytes and the marks among them
    length: int = 32  # ids of a caption; longer ones are cut
    han_characters: bool = True  # no piece spans two Han characters
    records: int = 4_000  # records whose captions the model is trained from, at most

    def __post_init__(self) -> None:
        require(
            self.vocabulary > 260,
            "data.text.vocabulary",
            self.vocabulary,
            "must be above 260: 256 bytes and the marks come first",
        )
        require(self.records > 0, "data.text.records", self.records, "must be at least 1")


@dataclasses.dataclass(frozen=True)
class Data:
    """The sources of records, and the way in which they become batches."""

    train: Source
    valid: Source
    loader: Loader
    text: Text
    # of training samples (ERNIE-ViLG 2.0); without the section there is none
    knowledge: Knowledge | None = None
