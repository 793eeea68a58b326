"""Generators and rankers by name. To add one: a file, and a line here.

Both are what the `generator` section of an experiment may name; a ranker scores pictures against
texts and draws none."""

from vilg.generators.autoregressive import Autoregressive
from vilg.generators.diffusion import Diffusion
from vilg.generators.dual_encoder import DualEncoder

GENERATORS = {"autoregressive": Autoregressive, "diffusion": Diffusion}
RANKERS = {"dual_encoder": DualEncoder}
