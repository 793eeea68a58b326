"""The second picture of a run from the command line compiles nothing."""

import os
import resource
import subprocess
import sys

from tests.conftest import tiny_config
from vilg.workdir.training import train

MOST = 5  # CPU-seconds of the second `vilg sample`: 18 without programs that are kept
SAMPLE = """
import sys
import jax
from vilg.run import cli
missed = []
def listen(event, **_):
    if event == "/jax/compilation_cache/cache_misses":
        missed.append(event)
jax.monitoring.register_event_listener(listen)
assert cli.main(sys.argv[1:]) == 0
print("compiled", len(missed))
"""


def test_the_second_sample_compiles_nothing(tmp_path):
    """Of the tiny transformer, with programs optimized as a person has them."""
    train(tiny_config(training__steps=1, training__checkpoint_every=1), tmp_path / "w", quiet=True)
    variables = {
        n: v for n, v in os.environ.items() if not n.startswith(("JAX_COMP", "JAX_PERS", "XLA"))
    }
    variables |= {"VILG_CACHE": str(tmp_path / "cache")}
    argv = ["sample", f"--workdir={tmp_path / 'w'}", "--prompt=a red ring", "--quiet"]
    pictures, said, seconds = [], [], []
    for place in ("first", "second"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", SAMPLE, *argv, f"--out={tmp_path / place}"]
        said.append(subprocess.check_output(command, env=variables, text=True).splitlines()[-1])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        pictures.append((tmp_path / place / "00000.png").read_bytes())
    assert said[0] != "compiled 0" and said[1] == "compiled 0"
    assert pictures[0] == pictures[1]
    assert seconds[1] <= MOST, seconds
