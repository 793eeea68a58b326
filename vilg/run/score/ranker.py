"""A ranker that was trained by vilg as an extractor of pictures and texts. Its numbers compare only
with themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from vilg.data.records import to_square
from vilg.run.score.features import Features
from vilg.workdir.restore import fingerprint
from vilg.workdir.session import Session, open_session


class RankerExtractor:
    """The run of a model that embeds pictures and texts in one space."""

    label, classes, languages = "ranker", False, ("zh", "en")

    def __init__(self, session: Session, hash: str, workdir: str):
        self.session, self.workdir = session, workdir
        self.name = f"ranker:{hash}"
        self.side, self.rows = session.experiment.image_codec.image_size, session.batch
        self.width = session.embed_images(np.zeros((1, self.side, self.side, 3), np.uint8)).shape[1]

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The square in the middle of the picture, as the run's own data were read."""
        return to_square(image, self.side)

    def start(self, batch: np.ndarray) -> Callable[[], Features]:
        """Computes features of length 1 at once."""
        features = Features(self.session.embed_images(batch))
        return lambda: features

    def texts(
        self, texts: Sequence[str], languages: Sequence[str]
    ) -> tuple[Float[np.ndarray, "n d"], int]:
        """(features of length 1, the number of texts that were cut)."""
        pairs = zip(texts, languages, strict=True)
        cut = sum(bool(self.session.text_ids(text, language)[1]) for text, language in pairs)
        return self.session.embed_texts(texts, languages), cut

    def protocol(self) -> dict[str, Any]:
        """The run, and how pictures are resized."""
        return {
            "name": self.name,
            "workdir": self.workdir,
            "step": self.session.step,
            "resize": f"centre square to {self.side}x{self.side} (Lanczos)",
        }


def ranker_extractor(workdir: str) -> RankerExtractor:
    """The extractor of a ranker's run. Errors: UserError for a workdir that holds none."""
    session = open_session(workdir)
    return RankerExtractor(session, fingerprint(session.params, session.program), workdir)
