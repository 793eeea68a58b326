"""vilg plan compiles a program under every layout for chips that this machine need not have, and
ranks the layouts.

    vilg plan --config=experiments/ernie_vilg.py:10b --topology=v5p:4x4x4 \\
        --layouts=fsdp,fsdp_tp:model=4 --json=plan.json
    vilg plan --config=experiments/ablations/layouts.py:lite --html=lite.html

The second file names its own topologies and layouts.

libtpu compiles the real train step (optimizer, average, accumulation, rematerialisation and
donation included), or with --program=sample the sampler, on a machine without a TPU; with
--topology=cpu:8 XLA compiles it for fake CPU devices. Bytes and FLOPs are counted from the compiled
program, loops multiplied out. Seconds and MFU are XLA's estimates under the assumptions that are
printed beside them, never measurements. A layout that does not fit or that fails is a row as well,
which says with which options it would fit (compiled, too). Compiled results are kept in
~/.cache/vilg/plans ($VILG_CACHE).

Exit code: 0 if a row fits; 2 if every layout was refused for a mistake, such as a mesh that does
not divide; else 1."""

from vilg.run.plan.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
