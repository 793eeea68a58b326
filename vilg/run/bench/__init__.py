"""vilg bench: ratios against a named baseline, both sides in one run; one core each, so that
CPU-seconds compare.

attention   block-wise sparse attention against our dense path, forward + backward, and its temporary memory; cached decoding steps
caching     cached decoding against running the whole stream for every code
gpt2        decoding and training beside Hugging Face's GPT-2 (needs the dev extra); --lite also at 1024 wide
unet        training and 50-step DDIM beside diffusers' U-Net of as many parameters (needs the dev extra)
inception   features of FID's InceptionV3 beside the same network in torch (needs the dev extra)
"""

from vilg.run.bench.verb import add_arguments, main

__all__ = ["add_arguments", "main"]
