"""TensorBoard's writer comes without what its package imports where it can."""

import sys

import numpy as np
import pytest

from vilg.training.board import SummaryWriter, hidden


def test_hidden_packages_seem_not_installed_and_are_there_again(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with hidden("colorsys", "json"):
        with pytest.raises(ImportError):
            import colorsys
        import json  # it was imported before, and nothing is taken from those that have it
    import colorsys

    assert colorsys and json


def test_the_writer_needs_no_torch():
    module = sys.modules[SummaryWriter.__module__]
    assert module.numpy_compatible is np.ndarray
