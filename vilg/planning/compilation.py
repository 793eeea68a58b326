"""Compiling a lowered program for chips that this machine may not have, with the result kept on
disk.

A result is kept under a hash of the program's text, the topology, the compiler's version and its
flags, in $VILG_CACHE/plans (~/.cache/vilg/plans)."""

import contextlib
import dataclasses
import gzip
import hashlib
import json
import os
import re
import tempfile
import zlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import jax

from vilg.compiler.flags import COMPILED_WITH
from vilg.compiler.warnings import compiler_warnings
from vilg.paths import cache_folder
from vilg.planning.topology import Topology
from vilg.workdir.files import versions

FORMAT = 3  # of the kept files; another number makes older files useless
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler made of a program.

    `text`: the optimized HLO. `memory`: bytes of a device, {"argument", "output", "alias", "temp",
    "generated_code"} and the same of the host's memory, {"host_argument", ...}. `oom`: {"needs",
    "has"} in bytes where the compiler refused the program for want of memory; then `text` and
    `memory` are empty. `cached`: whether the result was kept from an earlier compilation."""

    text: str = ""
    memory: Mapping[str, float] = dataclasses.field(default_factory=dict)
    oom: Mapping[str, float] | None = None
    warnings: tuple[str, ...] = ()
    cached: bool = False

    @property
    def bytes_needed(self) -> float:
        """Bytes of a device's memory that the program needs."""
        if self.oom:
            return self.oom["needs"]
        m = self.memory
        return float(m["argument"] + m["output"] - m["alias"] + m["temp"] + m["generated_code"])

    @property
    def host_bytes(self) -> float:
        """Bytes of the host's memory that the program needs, if the compiler tells them."""
        m = self.memory
        return float(m["host_argument"] + m["host_output"] - m["host_alias"] + m["host_temp"])


def libtpu_version() -> dict[str, str]:
    """{"libtpu": version} where libtpu is installed, else {}."""
    try:
        return {"libtpu": metadata.version("libtpu")}
    except metadata.PackageNotFoundError:
        return {}


def cache_file(lowered: jax.stages.Lowered, topology: Topology) -> Path:
    """The file that keeps the result of compiling this program for this topology."""
    flags = {variable: os.environ.get(variable, "") for variable in COMPILED_WITH}
    compiler = {**versions(), **libtpu_version()}
    content = json.dumps([FORMAT, lowered.as_text(), str(topology), compiler, flags])
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    return cache_folder("plans") / f"{digest}.json.gz"


def compile_kept(lowered: jax.stages.Lowered, file: Path, reported: bool) -> Compiled:
    """The compiled program: read from the file that keeps it, else compiled now and kept there.
    `reported`: whether the compiler can report its use of main memory (a TPU's can).
    """
    # a file that is absent or damaged: the program is compiled again
    with contextlib.suppress(OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
        kept = json.loads(gzip.decompress(file.read_bytes()))
        return Compiled(**kept | {"warnings": tuple(kept["warnings"]), "cached": True})
    compiled = _compile(lowered, reported)
    fields = dataclasses.asdict(compiled)
    del fields["cached"]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(gzip.compress(json.dumps(fields).encode(), 5))
        temporary.replace(file)
    except OSError as error:
        said = f"the compiled result is not kept: {error}; VILG_CACHE names another place"
        return dataclasses.replace(compiled, warnings=(*compiled.warnings, said))
    return compiled


def _compile(lowered: jax.stages.Lowered, reported: bool) -> Compiled:
    warnings: list[str] = []
    try:
        with compiler_warnings() as warnings, tempfile.TemporaryDirectory() as dump:
            compiled = lowered.compile(compiler_options={"xla_dump_to": dump} if reported else None)
            reports = map(assigned_bytes, Path(dump).glob("*memory-usage-report.txt"))
            assigned = next((size for size in reports if size), None)
    except Exception as error:  # the compiler's own error classes differ between releases
        oom = out_of_memory(str(error))
        if oom is None:
            raise
        return Compiled(oom=oom, warnings=tuple(warnings))
    memory = _memory(compiled)
    if assigned is not None:
        memory["temp"] = assigned - memory["argument"] - memory["output"] + memory["alias"]
    return Compiled(compiled.as_text() or "", memory, warnings=tuple(warnings))


def _memory(compiled: jax.stages.Compiled) -> dict[str, float]:
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise ValueError("the compiler gives no account of memory")
    return {
        "argument": analysis.argument_size_in_bytes,
        "output": analysis.output_size_in_bytes,
        "alias": analysis.alias_size_in_bytes,
        "temp": analysis.temp_size_in_bytes,
        "generated_code": analysis.generated_code_size_in_bytes,
        "host_argument": analysis.host_argument_size_in_bytes,
        "host_output": analysis.host_output_size_in_bytes,
        "host_alias": analysis.host_alias_size_in_bytes,
        "host_temp": analysis.host_temp_size_in_bytes,
    }


def assigned_bytes(report: Path) -> float | None:
    """Bytes of main memory that the compiler's buffer assignment takes, from the report that the
    compiler dumps; None where the report has none.

    The temporaries of `memory_analysis` count buffers twice that share memory: 103 GiB for a
    program that the compiler put into 84 GiB."""
    if not report.is_file():
        return None
    total = re.search(r"Memory Space: default \(color=0\)\s+Total bytes: (\d+)", report.read_text())
    return float(total[1]) if total else None


def out_of_memory(message: str) -> dict[str, float] | None:
    """{"needs", "has"} in bytes, from the error with which a compiler refuses a program for want of
    memory; None for any other error.
    """
    sizes = re.search(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm", message) or re.search(
        r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)", message
    )
    if not sizes:
        return None
    return {"needs": float(sizes[1]) * UNITS[sizes[2]], "has": float(sizes[3]) * UNITS[sizes[4]]}
