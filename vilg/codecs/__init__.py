"""Codecs: pixels <-> codes. `CODECS` is the table that `codec.name` resolves through."""

from vilg.codecs.vq import VQ

CODECS = {"vq": VQ}
