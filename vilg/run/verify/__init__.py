"""vilg verify compares one step's loss and gradients under every layout, on fake devices, with
those on one device.

    vilg verify --config=experiments/ernie_vilg.py:tiny --layouts=all --devices=8 --json=verify.json

The first rows are the layouts with the config's own options. Then each option (recomputation,
accumulation, scanned or unrolled layers, the implementation of attention, the TPU's kernel
interpreted, both directions in one pass) is changed alone under dp and fsdp_tp; with --full every
option under every layout. Parameters, codes and randomness are the same everywhere. Parameters are
the initial ones with a disturbance, so that no zero hides what comes before it; codes are those of
random pictures, computed once. Gradients are compared, and not updated weights, which Adam makes
equal where gradients differ.

Exit code: 1 if a row differs, if a layout that was named could not be compared, or if none was."""

from vilg.run.verify.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
