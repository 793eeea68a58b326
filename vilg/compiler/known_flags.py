"""Which of some flags the installed compiler knows: XLA in jaxlib, or libtpu.

Both compilers end a process that gives them an unknown flag, and flags come and go with their
versions. So a process of its own, which may end, tries the flags. Separate from flags.py because
the tests need this module before JAX and before anything else of vilg."""

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
    """The flags ("--name=value") known to the compiler that reads this environment variable, in the
    given order; all flags where that compiler is not installed (libtpu). The first call takes about
    a second.
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
