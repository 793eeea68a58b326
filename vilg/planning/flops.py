"""FLOPs of matrix products and convolutions in HLO, from their shapes."""

import math
import re
from collections.abc import Mapping

import numpy as np

from vilg.planning.hlo import Computation, Instruction


def flops_of(computation: Computation, instruction: Instruction) -> float:
    """Two operations for each multiply-add of a dot or a convolution, without those on positions in
    padding and in the gaps of a dilation; 0 for anything else.
    """
    if instruction.opcode == "dot":
        return _dot(computation, instruction)
    if instruction.opcode == "convolution":
        return _convolution(computation, instruction)
    return 0.0


def _dot(computation: Computation, instruction: Instruction) -> float:
    left = computation.by_name[instruction.operands[0]].shapes[0]
    dims = re.findall(r"\d+", instruction.attribute("lhs_contracting_dims"))
    contracted = math.prod(left.dims[int(d)] for d in dims)
    return 2.0 * math.prod(instruction.shapes[0].dims) * contracted


def _convolution(computation: Computation, instruction: Instruction) -> float:
    """For every output feature and batch entry: the valid pairs of output and kernel positions."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest)
    if labels is None:
        return 0.0
    left, kernel = (computation.by_name[name].shapes[0].dims for name in instruction.operands[:2])
    out = instruction.shapes[0].dims
    lhs, rhs, result = labels.groups()
    total = 2.0 * out[result.index("b")] * out[result.index("f")] * kernel[rhs.index("i")]
    window = dict(
        re.findall(
            r"(size|stride|pad|lhs_dilate|rhs_dilate)=([\dx_\-]+)", instruction.attribute("window")
        )
    )
    for k, label in enumerate(sorted(c for c in result if c.isdigit())):
        total *= _valid_pairs(
            out=out[result.index(label)],
            size=_at(window, "size", k, kernel[rhs.index(label)]),
            length=left[lhs.index(label)],
            stride=_at(window, "stride", k, 1),
            pad=int(window["pad"].split("x")[k].split("_")[0]) if "pad" in window else 0,
            dilation=_at(window, "lhs_dilate", k, 1),
            kernel_dilation=_at(window, "rhs_dilate", k, 1),
        )
    groups = int(instruction.attribute("batch_group_count") or 1)
    divided = groups > 1 and left[lhs.index("b")] != out[result.index("b")] * groups
    return total / groups if divided else total


def _at(window: Mapping[str, str], name: str, k: int, default: int) -> int:
    """A window's number for the spatial dimension k, as in size=3x3."""
    return int(window[name].split("x")[k]) if name in window else default


def _valid_pairs(
    *, out: int, size: int, length: int, stride: int, pad: int, dilation: int, kernel_dilation: int
) -> int:
    """Pairs of an output position and a kernel position that meet a real input position."""
    at = np.arange(out)[:, None] * stride + np.arange(size) * kernel_dilation - pad
    valid = (at >= 0) & (at <= (length - 1) * dilation) & (at % dilation == 0)
    return int(np.count_nonzero(valid))
