"""vilg bench measures ratios against a named baseline.

Both sides run in one command and on one core each, so that their CPU-seconds compare. Suites whose
other side is another library need the dev extra.

  attention   block-wise sparse attention against the dense path: forward and backward, temporary
              memory, and cached decoding steps
  caching     cached decoding against running the whole stream for every code
  gpt2        decoding and training beside Hugging Face's GPT-2; with --lite also 1024 wide
  unet        training and 50-step DDIM beside diffusers' U-Net of as many parameters
  inception   features of FID's InceptionV3 beside the same network in torch
"""

from vilg.run.bench.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
