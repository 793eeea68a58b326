"""Blocks that splash attention runs in ERNIE-ViLG's mix of 48 layers against dense layers, and what
they would take on a chip.

    python -m tests.benchmarks.splash_blocks --text=64

Counts, not measurements: the kernel's blocks of 128 x 128 at which a mask shows anything, and their
products (forward 2, dq 3, dkv 4) at the stated share of peak (vilg/planning/estimate.py) as cycles
of a v5p, for one row of the batch at the 10B width. Visible pairs stand beside them: what a kernel
without blocks could reach."""

import argparse

from vilg.nn.geometry import DIRECTIONS, Geometry
from vilg.nn.layer_patterns import schedule
from vilg.nn.patterns import make_pattern
from vilg.nn.splash import BLOCK, active_blocks, kernel_mask
from vilg.planning.chips import CHIPS
from vilg.planning.estimate import KERNEL_EFFICIENCY
from vilg.planning.kernels import PRODUCTS

GRID, LAYERS, HEADS, SIZE = (32, 32), 48, 64, 64


def counted(patterns: tuple[str, ...], direction: str, text: int) -> tuple[int, int]:
    """(blocks, visible pairs) of one head, summed over layers."""
    layers = [Geometry(make_pattern(name), direction, text, GRID) for name in patterns]
    blocks = {g: active_blocks(kernel_mask(g)) for g in set(layers)}
    pairs = {g: int(g.mask().sum()) for g in set(layers)}
    return sum(blocks[g] for g in layers), sum(pairs[g] for g in layers)


def main() -> None:
    """Prints a row a direction and stack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=int, default=64)
    text, chip = parser.parse_args().text, CHIPS["v5p"]
    for direction in DIRECTIONS:
        dense = counted(("dense",) * LAYERS, direction, text)
        for name, patterns in (
            ("dense", ("dense",) * LAYERS),
            ("mix", schedule("ernie_vilg", LAYERS)),
        ):
            blocks, pairs = counted(patterns, direction, text)
            flops = blocks * HEADS * sum(PRODUCTS.values()) * 2 * BLOCK * BLOCK * SIZE
            cycles = flops / (KERNEL_EFFICIENCY * chip.peak) * chip.clock
            print(
                f"{direction} {name}: {blocks} blocks ({blocks / dense[0]:.3f}), {pairs} pairs"
                f" ({pairs / dense[1]:.3f}), {cycles:.3g} cycles"
            )


if __name__ == "__main__":
    main()
