"""What a Pallas kernel in a compiled program costs, of which XLA knows nothing: its own estimate,
else what its name and shapes say.

Separate from costs.py, which counts what XLA knows. The splash attention kernels that JAX ships
state no cost; nn/splash.py writes into the operations' names how many of how many blocks are run,
and a kernel's products follow from its part in the softmax's passes."""

import math
import re

from vilg.planning.hlo import Computation, Instruction

TARGETS = ("tpu_custom_call", "Mosaic")
PRODUCTS = {
    "fwd": 2,
    "dq": 3,
    "dkv": 4,
}  # matrix products of a block: q k', p v; and q k', do v', ds k; and q k', p' do, do v', ds' q
_SPLASH = re.compile(r"splash_(\d+)_of_(\d+)_blocks_of_(\d+)_in_(\d+).*splash_m[hq]a_(fwd|dq|dkv)")


def is_kernel(instruction: Instruction) -> bool:
    """Whether it is a custom kernel."""
    return (
        instruction.opcode == "custom-call"
        and instruction.attribute("custom_call_target").strip('"') in TARGETS
    )


def kernel_flops(computation: Computation, instruction: Instruction) -> float | None:
    """FLOPs of one call: what the kernel says of itself (pl.CostEstimate), else those of splash
    attention's active blocks; None where neither is known."""
    stated = re.search(r'\\?"flops\\?":\s*\\?"?(\d+)', instruction.rest)
    if stated:
        return float(stated[1])
    shapes = computation.operand_shapes(instruction)
    if (
        instruction.op_name == "online-softmax"
    ):  # XLA's own: the softmax of its first operand's rows times its second
        return 2.0 * math.prod(shapes[0].dims) * shapes[1].dims[-1]
    splash = _SPLASH.search(instruction.op_name)
    if not splash:
        return None
    active, blocks, _, length = (int(n) for n in splash.groups()[:4])
    # the first floating operand, after the tables of blocks, holds rows x heads x length x size, in
    # whatever order
    queries = next(shape.dims for shape in shapes if shape.dtype in ("bf16", "f32"))
    return PRODUCTS[splash[5]] * 2.0 * math.prod(queries) * length * active / blocks
