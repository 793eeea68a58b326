"""TensorBoard's writer comes without what its package imports where it can."""

import subprocess
import sys

import pytest

from vilg.training.board import hidden


def test_hidden_packages_seem_not_installed_and_are_there_again(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with hidden("colorsys", "json"):
        with pytest.raises(ImportError):
            import colorsys
        import json  # it was imported before, and nothing is taken from those that have it
    import colorsys

    assert colorsys and json


def test_the_writer_needs_no_torch():
    """In a process of its own: other tests import torch."""
    told = (
        "import sys; from vilg.training.board import SummaryWriter; print('torch' in sys.modules,"
        " SummaryWriter.__name__)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", told], capture_output=True, text=True, check=True
        ).stdout
        == "False SummaryWriter\n"
    )
