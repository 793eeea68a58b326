"""The tables of generators and rankers by name. To add one: write its file, and add a line here.

The `generator` section of an experiment names a class of either table. A ranker scores pictures
against texts and generates none."""

from vilg.generators.autoregressive import Autoregressive
from vilg.generators.diffusion import Diffusion
from vilg.generators.dual_encoder import DualEncoder

GENERATORS = {"autoregressive": Autoregressive, "diffusion": Diffusion}
RANKERS = {"dual_encoder": DualEncoder}
