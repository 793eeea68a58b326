"""XLA's flags for the tests' programs and for those of processes that tests start: they are
compiled quickly, and run once or twice.

The emitters of fused kernels take two thirds of the time to compile, even without optimization. A
jaxlib without the other emitters does not know the flag that chooses them.
"""

from vilg.compiler.known_flags import known

_QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
UNOPTIMIZED = " ".join(known("XLA_FLAGS", _QUICK))
