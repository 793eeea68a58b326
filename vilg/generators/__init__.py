"""Generators by name. To add one: a file, and a line here."""

from vilg.generators.autoregressive import Autoregressive
from vilg.generators.diffusion import Diffusion

GENERATORS = {"autoregressive": Autoregressive, "diffusion": Diffusion}
