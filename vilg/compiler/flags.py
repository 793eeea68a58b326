"""Named sets of XLA's flags, with the source that recommends each of them.

`vilg train`, `vilg sweep`, `vilg plan` and `vilg launch` take the names (--flags=NAME,NAME), and a
run's config.json records the variables that were in force."""

import dataclasses
import os
import sys
from collections.abc import MutableMapping

from vilg.compiler.known_flags import known
from vilg.config import lookup, require


@dataclasses.dataclass(frozen=True)
class FlagSet:
    """Flags for one compiler. `variable`: the environment variable from which the compiler reads
    them (libtpu has its own), or an option of JAX's, which has a single value; `source`: who
    recommends them."""

    variable: str
    flags: tuple[str, ...]
    source: str


MAXTEXT = "AI-Hypercomputer/maxtext benchmarks/xla_flags_library.py"
# No set was timed for vilg, which had no TPU. libtpu 0.0.42 and jaxlib 0.10.2 know all the names.
FLAG_SETS: dict[str, FlagSet] = {
    "tpu_async_gather": FlagSet(
        "LIBTPU_INIT_ARGS",
        (
            "--xla_tpu_enable_async_collective_fusion=true",
            "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
            "--xla_tpu_enable_async_collective_fusion_multiple_steps=true",
            "--xla_tpu_overlap_compute_collective_tc=true",
            "--xla_enable_async_all_gather=true",
            # without this flag v5p:4x4x4 gathers by an all-reduce of zeros with one part filled
            "--xla_tpu_prefer_async_allgather_to_allreduce=true",
        ),
        f"{MAXTEXT}, CF_FOR_ALL_GATHER; the last flag: libtpu's own help",
    ),
    "tpu_reduce_scatter": FlagSet(
        "LIBTPU_INIT_ARGS",
        (
            "--xla_tpu_use_minor_sharding_for_major_trivial_input=true",
            "--xla_tpu_relayout_group_size_threshold_for_reduce_scatter=1",
            "--xla_tpu_assign_all_reduce_scatter_layout=true",
        ),
        f"{MAXTEXT}, LAYOUT_FOR_ALL_REDUCE_SCATTER",
    ),
    "tpu_sparsecore": FlagSet(
        "LIBTPU_INIT_ARGS",
        (
            "--xla_tpu_enable_sparse_core_collective_offload_all_reduce=true",
            "--xla_tpu_enable_sparse_core_collective_offload_reduce_scatter=true",
            "--xla_tpu_enable_sparse_core_collective_offload_nd_reduce_scatter=true",
            "--xla_tpu_enable_sparse_core_reduce_scatter_v2=true",
            "--xla_tpu_use_tc_device_shape_on_sc=true",
        ),
        "apple/axlearn axlearn/common/compiler_options.py, v6e: all-reduces run on the SparseCore,"
        " beside computation; that reduce-scatters do too was seen in compiled HLO",
    ),
    "tpu_sparsecore_gather": FlagSet(
        "LIBTPU_INIT_ARGS",
        (
            "--xla_tpu_enable_sparse_core_collective_offload_all_gather=true",
            "--xla_tpu_enable_sparse_core_collective_offload_2d_all_gather=true",
            "--xla_tpu_enable_sparse_core_collective_offload_3d_all_gather=true",
            "--xla_tpu_use_tc_device_shape_on_sc=true",
        ),
        "marin-community/marin's job scripts; all-gathers run on the SparseCore too, instead of"
        " in tpu_async_gather's fusions, as was seen in compiled HLO",
    ),
    "tpu_vmem": FlagSet(
        "LIBTPU_INIT_ARGS",
        ("--xla_tpu_scoped_vmem_limit_kib=98304",),
        f"{MAXTEXT}, DENSE_VMEM_LIMIT, for v6e",
    ),
    "tpu_vmem_v5": FlagSet(
        "LIBTPU_INIT_ARGS",
        ("--xla_tpu_scoped_vmem_limit_kib=50000",),
        "marin-community/marin, the default of its jobs on v5e and v5p",
    ),
    "tpu_whole_products": FlagSet(
        "LIBTPU_INIT_ARGS",
        ("--xla_jf_spmd_threshold_for_windowed_einsum_mib=1000000",),
        "apple/axlearn axlearn/common/compiler_options.py: matrix products wait for complete"
        " weights; without the flag fsdp_tp multiplies the weights shard by shard as they arrive",
    ),
    "tpu_deduplicate": FlagSet(
        "LIBTPU_INIT_ARGS",
        ("--xla_tpu_enable_deduplicated_calls=true",),
        "libtpu's own help; compiling took an eighth less time, and the HLO was the same",
    ),
    "tpu_quick_compile": FlagSet(
        "JAX_OPTIMIZATION_LEVEL",
        ("O1",),
        "openxla.org/xla/effort_levels, jax.CompilerEffortLevel; in compiled HLO: smaller windows"
        " and nothing fetched ahead; for programs of many different blocks",
    ),
    "tpu_large_stack": FlagSet(
        "LIBTPU_INIT_ARGS",
        ("--fibers_default_thread_stack_size=1048576",),
        "libtpu's own flag; with the default of 64 KiB the thread of libtpu 0.0.42 that estimates"
        " fused convolutions overflowed its stack (an expert of the 24B model on v6e-256)",
    ),
    "tpu_multislice": FlagSet(
        "LIBTPU_INIT_ARGS",
        (
            "--xla_tpu_enable_data_parallel_all_reduce_opt=true",
            "--xla_tpu_data_parallel_opt_different_sized_ops=true",
        ),
        f"{MAXTEXT}, DATA_PARALLEL_OVERLAP: all-reduces over the data-centre network overlap"
        " computation",
    ),
    "gpu_overlap": FlagSet(
        "XLA_FLAGS",
        ("--xla_gpu_enable_latency_hiding_scheduler=true",),
        "docs.jax.dev/en/latest/gpu_performance_tips.html; NVIDIA's JAX images have it too",
    ),
    "gpu_pipelined": FlagSet(
        "XLA_FLAGS",
        (
            "--xla_gpu_enable_latency_hiding_scheduler=true",
            "--xla_gpu_enable_pipelined_all_gather=true",
            "--xla_gpu_enable_pipelined_reduce_scatter=true",
            "--xla_gpu_enable_pipelined_all_reduce=true",
        ),
        "docs.jax.dev/en/latest/gpu_performance_tips.html, pipelined collectives",
    ),
}
# Variables that change the program which is compiled from the same source.
COMPILED_WITH = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_OPTIMIZATION_LEVEL")
RECORDED = (
    *COMPILED_WITH,
    "JAX_PLATFORMS",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_DEFAULT_MATMUL_PRECISION",
)


def parse_flags(text: str) -> tuple[str, ...]:
    """The names of a text such as "tpu_async_gather,tpu_multislice"; () for "". Errors: UserError
    for an unknown name, and for two sets that contradict each other.
    """
    names = tuple(name for name in text.split(",") if name)
    values: dict[str, tuple[str, str]] = {}  # flag -> (the first set that has it, its value there)
    for name in names:
        for flag, _, value in (f.partition("=") for f in lookup(FLAG_SETS, name, "flags").flags):
            other, before = values.setdefault(flag, (name, value))
            remedy = (
                f"{other} and {name} give {flag} other values, {before} and {value}; choose one of"
                " them"
            )
            require(before == value, "flags", text, remedy)
    return names


def add_flags(text: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds the flags of named sets to the environment; to be called before JAX is first used. Flags
    that the environment already holds come last and win.

    A flag that the installed compiler does not know would end the process: such flags are left out,
    and a line on standard error says which."""
    for name in parse_flags(text):
        flags = FLAG_SETS[name]
        if flags.variable.startswith("JAX_"):
            value = environment.setdefault(flags.variable, *flags.flags)
            if environment is os.environ and "jax" in sys.modules:  # it has read the environment
                sys.modules["jax"].config.update(flags.variable.lower(), value)
            continue
        present = environment.get(flags.variable, "").split()
        names = {flag.partition("=")[0] for flag in present}
        added = known(flags.variable, flags.flags)
        if added != flags.flags:
            unknown = " ".join(flag for flag in flags.flags if flag not in added)
            message = "left out what the compiler installed here does not know"
            print(f"flags={name!r}: {message}: {unknown}", file=sys.stderr)
        environment[flags.variable] = " ".join(
            [*(f for f in added if f.partition("=")[0] not in names), *present]
        )
