"""Codecs: pixels <-> latents, some of them with codes. `CODECS` is the table of `codec.name`."""

from vilg.codecs.kl import KL
from vilg.codecs.pixels import Pixels
from vilg.codecs.vq import VQ

CODECS: dict[str, type[VQ] | type[KL] | type[Pixels]] = {"vq": VQ, "kl": KL, "pixels": Pixels}
