"""Compiled programs are kept between processes, whatever state the directory is in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import jax
from vilg import program_cache
program_cache.LIMIT = int(sys.argv[1])
counts = {"hits": 0, "misses": 0}
def count(event, **_):
    for name in counts:
        counts[name] += event == f"/jax/compilation_cache/cache_{name}"
jax.monitoring.register_event_listener(count)
program_cache.keep_programs()
for factor in range(int(sys.argv[2])):
    assert jax.jit(lambda x: x * factor)(3.0) == 3 * factor
print(counts["hits"], counts["misses"])
"""
ENVIRONMENT = {n: v for n, v in os.environ.items() if not n.startswith(("JAX_COMP", "JAX_PERS"))}


def begun(cache: Path, programs: int = 2, limit: int = 2**30, **variables: str) -> subprocess.Popen:
    """A process that compiles a few programs, with its cache in `cache`."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(limit), str(programs)],
        env={**ENVIRONMENT, "VILG_CACHE": str(cache), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen) -> tuple[list[int], str]:
    """([programs read, programs compiled], standard error) of such a process."""
    out, said = process.communicate()
    assert process.returncode == 0, said
    return [int(number) for number in out.split()], said


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("xla/*/*-cache"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    """A cache that three processes filled at once."""
    cache = tmp_path_factory.mktemp("cache")
    for process in [begun(cache) for _ in range(3)]:
        (read, compiled), said = ended(process)
        assert said == "" and read + compiled == compiled + read > 0
    return cache


def test_the_next_process_compiles_nothing(filled):
    (read, compiled), said = ended(begun(filled))
    assert compiled == 0 and read == len(kept(filled)) >= 2 and said == ""


def test_what_cannot_be_read_is_told_once_and_compiled(filled):
    """Torn programs; and, mended before, programs without their time of use, as a process leaves
    one that is killed between writing the two."""
    for file in kept(filled):
        file.write_bytes(b"torn")
    (read, compiled), said = ended(begun(filled))
    assert read == 0 and compiled >= 2 and said.count("\n") == 1
    assert said.startswith("vilg: compiled programs are not stored (Error reading")
    for file in filled.glob("xla/*/*-atime"):
        file.unlink()
    assert ended(begun(filled)) == ([0, compiled], "")
    assert ended(begun(filled)) == ([compiled, 0], "")


def test_a_directory_that_cannot_be_made_is_told_once(tmp_path):
    (tmp_path / "file").write_text("")
    (read, _), said = ended(begun(tmp_path / "file"))
    assert read == 0 and said.count("\n") == 1 and "set VILG_CACHE to another directory" in said


def test_another_directory_of_the_persons_is_left_to_jax(filled, tmp_path):
    (read, _), said = ended(begun(filled, JAX_COMPILATION_CACHE_DIR=str(tmp_path)))
    assert read == 0 and said == ""


def test_the_directory_stays_below_its_limit(tmp_path):
    ended(begun(tmp_path, programs=1))
    (one,) = {file.stat().st_size for file in kept(tmp_path)[:1]}
    ended(begun(tmp_path, programs=8, limit=3 * one))
    assert 0 < sum(file.stat().st_size for file in kept(tmp_path)) <= 3 * one
