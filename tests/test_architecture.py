"""Rules that a reader can rely on, and files of a size to read in one sitting."""

import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from vilg.codecs import CODECS
from vilg.generators import GENERATORS, RANKERS
from vilg.parallel.layouts import LAYOUTS

FILES = {p.as_posix(): p.read_text() for p in sorted(Path("vilg").rglob("*.py"))}
JIT = {
    "vilg/program.py",
    "vilg/frozen.py",
    *(
        f"vilg/run/bench/{what}.py"
        for what in ("attention", "decoding", "models", "caching", "gpt2", "unet")
    ),
}


def test_mesh_axis_names_occur_only_in_layouts():
    axes = {a for make in LAYOUTS.values() for a in make().mesh} - {
        "data",
        "expert",
    }  # also a config section, and a logical axis
    for name, text in FILES.items():
        if name != "vilg/parallel/layouts.py":
            found = re.findall(rf"[\"']({'|'.join(axes)})[\"']", text)
            assert not found, f"{name} names the mesh axis {found}"


def test_jit_is_called_only_in_program_and_for_frozen_networks():
    for name, text in FILES.items():
        if name not in JIT:
            assert not re.search(r"\bjax\.jit\(|@jax\.jit|\bpjit\(", text), f"{name} calls jax.jit"


def test_families_are_named_only_in_their_table_and_file():
    for family in (*GENERATORS, *RANKERS, *CODECS):
        for name, text in FILES.items():
            at_home = f"/{family}" in name or name.endswith("__init__.py")
            branches = re.findall(rf"(?:==|!=|\bin) \(?[\"']{family}[\"']", text)
            assert at_home or not branches, f"{name} branches on {family!r}"


def test_layouts_are_not_branched_on():
    for layout in LAYOUTS:
        for name, text in FILES.items():
            assert not re.search(rf"(?:==|!=) [\"']{layout}[\"']", text), (
                f"{name} branches on layout {layout!r}"
            )


def test_files_can_be_read_in_one_sitting():
    lengths = {name: text.count("\n") for name, text in FILES.items()}
    assert max(lengths.values()) <= 400, max(lengths, key=lengths.get)
    assert statistics.median(lengths.values()) <= 180
    for name in FILES:
        assert Path(name).stem not in {"utils", "helpers", "common", "misc"}, name
        assert "from __future__ import annotations" not in FILES[name], name


def test_shapes_are_checked_in_every_part_but_those_without_arrays(pytestconfig):
    checked = pytestconfig.getoption("jaxtyping_packages").split(",")
    parts = {"vilg." + Path(name).parts[1].removesuffix(".py") for name in FILES}
    assert parts - set(checked) == {
        f"vilg.{part}"
        for part in ("__init__", "__main__", "compiler", "config", "parallel", "planning")
    }


def test_every_module_says_what_it_is():
    for name, text in FILES.items():
        assert text.startswith('"""'), name


def test_reading_every_experiment_loads_five_files_of_vilg_at_most():
    """An experiment file is data: reading it loads none of the parts that are built from it."""
    program = """
import pathlib, sys
from vilg.experiment_file import load_config, load_file
for file in map(str, pathlib.Path("experiments").rglob("*.py")):
    for size in load_file(file).SIZES:
        load_config(f"{file}:{size}")
print(*sorted(name for name in sys.modules if name.split(".")[0] == "vilg"))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = run.stdout.split()
    assert "vilg.experiment_file" in loaded, run.stderr
    assert len(loaded) <= 5, loaded


def test_the_help_takes_at_most_one_cpu_second():
    """User and system time of `python -m vilg --help`, a process of its own: 0.8 s at commit
    4802b2a, which imported JAX and started Python twice; 0.03 s without."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.check_output([sys.executable, "-m", "vilg", "--help"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert b"usage: vilg VERB" in said
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= 1


def test_no_verb_imports_another():
    """A module of a verb, vilg/run/VERB.py or one of the package vilg/run/VERB/, imports nothing of
    another verb. What verbs share is in the packages below vilg/run/, or in vilg/run/terminal/;
    vilg/run/cli.py calls every verb.
    """
    verb_of = {
        name: Path(name).parts[2].removesuffix(".py") for name in FILES if name[:9] == "vilg/run/"
    }
    shared = {"__init__", "cli", "terminal"}
    assert {"train", "sample", "plan", "compare"} <= set(verb_of.values())
    for name, verb in verb_of.items():
        if verb not in shared:
            imported = re.findall(r"vilg\.run\.(\w+)|from vilg\.run import (.+)", FILES[name])
            found = {word for one, many in imported for word in re.findall(r"\w+", one or many)}
            others = found & set(verb_of.values()) - shared - {verb}
            assert not others, f"{name} imports the verb {others}"


def test_the_verbs_can_be_seen_at_a_glance():
    """Files of vilg/run/ itself (51 before verbs of several files became packages)."""
    assert len(list(Path("vilg/run").glob("*.py"))) <= 20


def test_parallel_says_where_arrays_live_and_nothing_else():
    """Lines of vilg/parallel (1,861 when it also read compiled programs and knew chips)."""
    lines = {n: text.count("\n") for n, text in FILES.items() if n.startswith("vilg/parallel/")}
    assert 0 < sum(lines.values()) <= 800, lines
