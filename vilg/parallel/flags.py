"""Sets of XLA's flags by name: one table with its sources, so that a run can say which it had.

Separate from the recipes of `vilg launch` because `vilg train --flags=NAME` applies them too, and
the workdir records what was in force."""

import dataclasses
import os
import sys
from collections.abc import MutableMapping

from vilg.config import lookup, require
from vilg.parallel.known_flags import known


@dataclasses.dataclass(frozen=True)
class FlagSet:
    """Flags for one compiler. `variable`: where it reads them (libtpu has its own), or an option of
    JAX's, which has one value; `source`: who says that they help."""

    variable: str
    flags: tuple[str, ...]
    source: str


MAXTEXT = "AI-Hypercomputer/maxtext benchmarks/xla_flags_library.py"
# None of these was timed here: there is no TPU. That libtpu 0.0.42 and jaxlib 0.10.2 know the names
# was checked.
FLAG_SETS: dict[str, FlagSet] = {
    "tpu_async_gather": FlagSet(
        "LIBTPU_INIT_ARGS",
        (
            "--xla_tpu_enable_async_collective_fusion=true",
            "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
            "--xla_tpu_enable_async_collective_fusion_multiple_steps=true",
            "--xla_tpu_overlap_compute_collective_tc=true",
            "--xla_enable_async_all_gather=true",
            # else v5p:4x4x4 gathers by summing zeros with a part set
            "--xla_tpu_prefer_async_allgather_to_allreduce=true",
        ),
        f"{MAXTEXT}, CF_FOR_ALL_GATHER; the last: its own help",
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
        "apple/axlearn axlearn/common/compiler_options.py, v6e: sums on the SparseCore, beside"
        " computation; reduce-scatters: seen in HLO here",
    ),
    "tpu_sparsecore_gather": FlagSet(
        "LIBTPU_INIT_ARGS",
        (
            "--xla_tpu_enable_sparse_core_collective_offload_all_gather=true",
            "--xla_tpu_enable_sparse_core_collective_offload_2d_all_gather=true",
            "--xla_tpu_enable_sparse_core_collective_offload_3d_all_gather=true",
            "--xla_tpu_use_tc_device_shape_on_sc=true",
        ),
        "marin-community/marin's job scripts; gathers on the SparseCore too, instead of"
        " tpu_async_gather's fusions: seen in HLO here",
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
        "apple/axlearn axlearn/common/compiler_options.py: products wait for whole weights; else"
        " fsdp_tp multiplies them shard by shard as they come",
    ),
    "tpu_deduplicate": FlagSet(
        "LIBTPU_INIT_ARGS",
        ("--xla_tpu_enable_deduplicated_calls=true",),
        "libtpu's own help; an eighth less time to compile here, the same HLO",
    ),
    "tpu_quick_compile": FlagSet(
        "JAX_OPTIMIZATION_LEVEL",
        ("O1",),
        "openxla.org/xla/effort_levels, jax.CompilerEffortLevel; here: smaller windows, nothing"
        " fetched ahead; for programs of many different blocks",
    ),
    "tpu_large_stack": FlagSet(
        "LIBTPU_INIT_ARGS",
        ("--fibers_default_thread_stack_size=1048576",),
        "libtpu's own; with its usual 64 KiB libtpu 0.0.42 overflowed the stack of one that costs"
        " fused convolutions (the 24B's expert on v6e-256)",
    ),
    "tpu_multislice": FlagSet(
        "LIBTPU_INIT_ARGS",
        (
            "--xla_tpu_enable_data_parallel_all_reduce_opt=true",
            "--xla_tpu_data_parallel_opt_different_sized_ops=true",
        ),
        f"{MAXTEXT}, DATA_PARALLEL_OVERLAP: sums over the data-centre network behind computation",
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
COMPILED_WITH = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "JAX_OPTIMIZATION_LEVEL",
)  # what makes another program of the same source
RECORDED = (
    *COMPILED_WITH,
    "JAX_PLATFORMS",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_DEFAULT_MATMUL_PRECISION",
)


def parse_flags(text: str) -> tuple[str, ...]:
    """The names of "tpu_async_gather,tpu_multislice"; none of "". Errors: UserError for an unknown
    name, and for two that contradict each other.
    """
    names = tuple(name for name in text.split(",") if name)
    values: dict[str, tuple[str, str]] = {}
    for name in names:
        for flag, _, value in (
            one.partition("=") for one in lookup(FLAG_SETS, name, "flags").flags
        ):
            other, told = values.setdefault(flag, (name, value))
            require(
                told == value,
                "flags",
                text,
                f"{other} and {name} give {flag} other values, {told} and {value}; choose one of"
                " them",
            )
    return names


def ask_for_flags(text: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds the flags of named sets to the environment, before what is there already, which comes
    last and wins; before JAX is first used.

    A flag that the compiler here does not know would end the process: such flags are left out, and
    a line on stderr says which.
    """
    for name in parse_flags(text):
        flags = FLAG_SETS[name]
        if flags.variable.startswith("JAX_"):
            value = environment.setdefault(flags.variable, *flags.flags)
            if environment is os.environ and "jax" in sys.modules:  # which has read its environment
                sys.modules["jax"].config.update(flags.variable.lower(), value)
            continue
        there = environment.get(flags.variable, "").split()
        told = {flag.partition("=")[0] for flag in there}
        added = known(flags.variable, flags.flags)
        if added != flags.flags:
            unknown = " ".join(flag for flag in flags.flags if flag not in added)
            message = "left out what the compiler installed here does not know"
            print(f"flags={name!r}: {message}: {unknown}", file=sys.stderr)
        environment[flags.variable] = " ".join(
            [*(f for f in added if f.partition("=")[0] not in told), *there]
        )
