"""Layouts on four TPU pods, compiled without a TPU: which fit, which is fastest, and why.

    vilg plan --config=experiments/ablations/layouts.py:lite --html=layouts_lite.html --json=layouts_lite.json
    vilg plan --config=experiments/ablations/layouts.py:10b --topology=v5p:4x4x4 --layouts=fsdp,fsdp_tp:model=4

The pods are v4-128, v5e-256, v5p-128 and v6e-256, 64 or 256 chips (a name in front of x counts
cores on v4 and v5p). Every layout of a size has the same global batch; what was found:
experiments/results/README.md. Needs libtpu (pip install '.[tpu]'), no TPU. The smaller U-Net has 5,
10, 15 and 20 heads: it refuses tensor parallelism, and 256 shards; those rows say so."""

from ml_collections import ConfigDict

from vilg.config import lookup
from vilg.experiment_file import load_config

TOPOLOGIES = ("v4:4x4x4", "v5e:16x16", "v5p:4x4x4", "v6e:16x16")
LAYOUTS = (
    "fsdp",
    "zero2",
    "fsdp_tp:model=2",
    "sequence:sequence=2",
    "group_sharded:shard=16",
    "group_sharded:shard=64",
    "expert",
)
SIZES = {
    "lite": "ernie_vilg.py:lite",
    "10b": "ernie_vilg.py:10b",
    "ablation": "ernie_vilg2.py:ablation",
    "paper_dense": "ernie_vilg2.py:paper_dense",
    "paper": "ernie_vilg2.py:paper",
}


def get_config(size: str = "lite") -> ConfigDict:
    """The experiment of one of SIZES, as its own file has it."""
    return load_config(f"../{lookup(SIZES, size, 'config size')}", beside=__file__)
