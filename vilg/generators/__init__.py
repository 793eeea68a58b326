"""Generators by name. To add one: a file, and a line here."""

from vilg.generators.autoregressive import Autoregressive

GENERATORS = {"autoregressive": Autoregressive}
