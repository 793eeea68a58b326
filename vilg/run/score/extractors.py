"""The networks that `vilg score images` offers by name.

Public networks read their weights from a file that the user gives; vilg ships none. With --ranker,
a ranker that was trained by vilg serves instead of a network of the table."""

from collections.abc import Callable
from dataclasses import dataclass

from vilg.run.score.clip import ClipExtractor
from vilg.run.score.features import Extractor
from vilg.run.score.inception import InceptionExtractor


@dataclass(frozen=True)
class ExtractorOptions:
    """Options of the command line. `weights`: the file of the weights; `batch`: pictures computed
    at once; `resize`: a name of metrics/resize.py, "" for the network's default; `tokenizer`: the
    file of the text model, "" for the one beside the weights.
    """

    weights: str
    batch: int
    resize: str = ""
    tokenizer: str = ""


EXTRACTORS: dict[str, Callable[[ExtractorOptions], Extractor]] = {
    "inception": lambda o: InceptionExtractor(o.weights, o.resize or "pytorch_fid", o.batch),
    "clip": lambda o: ClipExtractor(o.weights, o.batch, o.tokenizer),
}
