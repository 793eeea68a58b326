"""The finished tiny runs of the verbs' tests, for the tests of what reads a run."""

from tests.run.conftest import codec_run, diffusion_run

__all__ = ["codec_run", "diffusion_run"]
