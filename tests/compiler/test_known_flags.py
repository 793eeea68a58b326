"""Flags that the installed compiler does not know are left out, whatever its version."""

import importlib.util
import os

import pytest

from vilg.compiler.flags import FLAG_SETS, FlagSet, add_flags
from vilg.compiler.known_flags import known

TOPMOST, FAST = "--xla_backend_optimization_level=0", "--xla_cpu_enable_fast_math=false"
MISSING, OTHER = "--xla_cpu_never_was=1", "--xla_no_such=false"


def test_unknown_flags_are_left_out_and_the_others_keep_their_order():
    assert known("XLA_FLAGS", (MISSING, TOPMOST, OTHER, FAST)) == (TOPMOST, FAST)
    assert known("XLA_FLAGS", ()) == () == known("XLA_FLAGS", (MISSING,))


def test_a_callers_own_flags_are_not_asked_about(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", MISSING)
    assert known("XLA_FLAGS", (TOPMOST, OTHER)) == (TOPMOST,)


def test_what_was_left_out_of_a_set_is_said(monkeypatch, capsys):
    monkeypatch.setitem(FLAG_SETS, "old", FlagSet("XLA_FLAGS", (TOPMOST, MISSING), "a test"))
    environment = {"XLA_FLAGS": "--mine=1"}
    add_flags("old", environment)
    assert environment["XLA_FLAGS"] == f"{TOPMOST} --mine=1"
    message = "left out what the compiler installed here does not know"
    assert capsys.readouterr().err == f"flags='old': {message}: {MISSING}\n"


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_libtpu_is_asked_too():
    vmem = FLAG_SETS["tpu_vmem"].flags
    assert known("LIBTPU_INIT_ARGS", ("--xla_tpu_never_was=1", *vmem)) == vmem


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_all_flags_are_kept():
    assert known("LIBTPU_INIT_ARGS", ("--xla_tpu_never_was=1",)) == ("--xla_tpu_never_was=1",)


def test_the_tests_own_flags_are_in_force():
    assert TOPMOST in os.environ["XLA_FLAGS"].split()
