"""Codecs: pixels <-> latents, some with codes. `CODECS` is the table that `codec.name` resolves
through.
"""

from vilg.codecs.kl import KL
from vilg.codecs.pixels import Pixels
from vilg.codecs.vq import VQ

CODECS = {"vq": VQ, "kl": KL, "pixels": Pixels}
