"""Packages with whose numbers tests compare: torch, and diffusers and transformers, which run on
torch. The dev extra brings them on Python 3.11 only (pyproject.toml says why); elsewhere the tests
that use one of them are skipped, and the other tests of the same files run.
"""

import importlib
import importlib.util
from typing import Any

import pytest

_REASON = "torch is not installed; the dev extra brings it on Python 3.11 only"
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason=_REASON)


class _Absent:
    """Stands for a module without torch: whatever test uses it is skipped."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        pytest.skip(_REASON)


def oracle(name: str) -> Any:
    """The module of this name, which is torch or imports it; without torch a stand-in that skips
    the test in which one of its attributes is first used.
    """
    return importlib.import_module(name) if importlib.util.find_spec("torch") else _Absent()
