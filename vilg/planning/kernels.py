"""FLOPs of Pallas kernels in a compiled program, which XLA does not know: those that a kernel
states itself, else those that its name and shapes give.

The splash attention kernels of JAX state no cost. nn/splash.py writes into the operations' names
how many of how many blocks run, and the name of a kernel says which part of attention it is."""

import math
import re

from vilg.planning.hlo import Computation, Instruction

TARGETS = ("tpu_custom_call", "Mosaic")
# Matrix products of a block of splash attention: forward q k', p v; dq: q k', do v', ds k;
# dkv: q k', p' do, do v', ds' q.
PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}
_SPLASH = re.compile(r"splash_(\d+)_of_(\d+)_blocks_of_(\d+)_in_(\d+).*splash_m[hq]a_(fwd|dq|dkv)")


def is_kernel(instruction: Instruction) -> bool:
    """Whether the instruction is a custom kernel."""
    return instruction.opcode == "custom-call" and instruction.custom_call_target in TARGETS


def kernel_flops(computation: Computation, kernel: Instruction) -> float | None:
    """FLOPs of one run of a kernel: those that it states (pl.CostEstimate), else those of splash
    attention's active blocks; None where neither is known.
    """
    stated = re.search(r'\\?"flops\\?":\s*\\?"?(\d+)', kernel.rest)
    if stated:
        return float(stated[1])
    shapes = computation.operand_shapes(kernel)
    if kernel.op_name == "online-softmax":
        # XLA's own kernel: the softmax of the rows of its first operand times its second operand
        return 2.0 * math.prod(shapes[0].dims) * shapes[1].dims[-1]
    splash = _SPLASH.search(kernel.op_name)
    if not splash:
        return None
    active, blocks, _, length = (int(n) for n in splash.groups()[:4])
    # The first operand of floating-point numbers, after the tables of blocks, holds rows x heads x
    # length x size of a head, in some order.
    queries = next(shape.dims for shape in shapes if shape.dtype in ("bf16", "f32"))
    return PRODUCTS[splash[5]] * 2.0 * math.prod(queries) * length * active / blocks
