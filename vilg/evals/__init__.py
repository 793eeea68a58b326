"""Evaluators by name. To add one: a file, and a line here."""

from vilg.evals.losses import Losses
from vilg.evals.reconstruction import Reconstruction
from vilg.evals.scenes import Scenes
from vilg.evals.twins import Twins

EVALUATORS = {"losses": Losses, "reconstruction": Reconstruction, "scenes": Scenes, "twins": Twins}
