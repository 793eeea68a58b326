"""The table of evaluators by name. To add an evaluator: write its file, and add a line here."""

from vilg.evals.caption_gap import CaptionGap
from vilg.evals.captions import Captions
from vilg.evals.losses import Losses
from vilg.evals.prompts import Prompts
from vilg.evals.reconstruction import Reconstruction
from vilg.evals.retrieval import Retrieval
from vilg.evals.scenes import Scenes
from vilg.evals.twins import Twins

EVALUATORS = {
    "caption_gap": CaptionGap,
    "captions": Captions,
    "losses": Losses,
    "prompts": Prompts,
    "reconstruction": Reconstruction,
    "retrieval": Retrieval,
    "scenes": Scenes,
    "twins": Twins,
}
