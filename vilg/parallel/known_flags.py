"""Which of some flags the installed compiler knows: XLA in jaxlib, or libtpu.

Separate from flags.py because the tests need it before JAX and before anything else of vilg. Both
compilers end the process that gives them a flag that they do not know, and flags come and go with
their versions; so another process, which may end, is asked.
"""

import functools
import os
import re
import subprocess
import sys
from collections.abc import Mapping

# A program that has the compiler read the variable. libtpu reads its flags when it describes a
# topology; no TPU is needed or touched.
_READS: Mapping[str, str] = {
    "XLA_FLAGS": "import jax; jax.devices()",
    "LIBTPU_INIT_ARGS": "from jax.experimental import topologies;"
    "topologies.get_topology_desc('v5e:2x2x1', platform='tpu')",
}
_ALONE = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}


@functools.cache
def known(variable: str, flags: tuple[str, ...]) -> tuple[str, ...]:
    """The flags ("--name=value") that the compiler which reads this environment variable knows, in
    their order; all of them where it cannot be asked (no libtpu here). About a second the first
    time.
    """
    environment = {k: v for k, v in os.environ.items() if k not in _READS} | _ALONE
    while flags:
        answer = subprocess.run(
            [sys.executable, "-c", _READS[variable]],
            env={**environment, variable: " ".join(flags)},
            capture_output=True,
            text=True,
            errors="replace",
        )
        named = set(re.findall(r"\w+", answer.stderr))
        unknown = [flag for flag in flags if _name(flag) in named]
        if answer.returncode == 0 or not unknown:
            break
        flags = tuple(flag for flag in flags if flag not in unknown)
    return flags


def _name(flag: str) -> str:
    return flag.removeprefix("--").partition("=")[0]
