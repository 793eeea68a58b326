r"""Layouts on four TPU pods, compiled without a TPU: which fit, which is fastest, and why.

    vilg plan --config=experiments/ablations/layouts.py:lite --html=layouts_lite.html
    vilg plan --config=experiments/ablations/layouts.py:10b --topology=v5p:4x4x4 \
        --layouts=fsdp,fsdp_tp:model=4

The pods are v4-128, v5e-256, v5p-128 and v6e-256, of 64 or 256 chips (on v4 and v5p the number in a
pod's name counts cores). Every layout of a size has the same global batch. Planning needs libtpu
(pip install '.[tpu]') but no TPU. Three layouts of `lite` on the four pods took 4,332 CPU-seconds,
49 minutes on two busy cores and 12.2 GiB: group_sharded:shard=16 is best on all, at a likely MFU of
.357, .347, .355 and .185 (experiments/results/README.md).

The U-Net of `ablation` has 5, 10, 15 and 20 heads, so it refuses tensor parallelism and 256 shards;
the rows of these layouts say so."""

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
    """The experiment of one of SIZES, unchanged."""
    return load_config(f"../{lookup(SIZES, size, 'config size')}", beside=__file__)
