"""Rematerialisation: which intermediate arrays the backward pass keeps; it computes the others
again. The policies have names, so that an experiment file can choose one.

In bfloat16 a position and layer of width d keeps

    2d bytes  the residual stream
    6d        "qkv": queries, keys and values
    2d        "attention_out" (4d where a TPU pads heads of 64)
    2d        "middle": the stream after attention
    8d        "mlp_in": the feed-forward layer's hidden units before GELU
    2d        "stream": a layer's output

Of a scanned unit of several layers the last layer's output is kept anyway; without the name
"stream" the second feed-forward products of the unit's other layers are computed again.
"""

from collections.abc import Callable
from typing import TypeVar

import flax.linen as nn
import jax

from vilg.config import lookup

Target = TypeVar("Target")


def _save(*names: str) -> Callable[..., bool]:
    return jax.checkpoint_policies.save_only_these_names(*names)


REMAT: dict[str, Callable[..., bool] | None] = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "qkv": _save("qkv"),
    "qkv_attention_mlp": _save("qkv", "attention_out", "mlp_in"),
    "qkv_attention": _save("qkv", "attention_out", "middle"),
    "qkv_attention_mlp_stream": _save("qkv", "attention_out", "mlp_in", "stream"),
    "qkv_attention_middle_mlp": _save("qkv", "attention_out", "middle", "mlp_in"),
    "all_named": _save("qkv", "attention_out", "middle", "mlp_in", "stream"),
}


def rematerialised(target: Target, remat: str, field: str, prevent_cse: bool = True) -> Target:
    """`target` (a Linen module class, or a function whose first argument is a module), of which the
    backward pass keeps the arrays that the policy `remat` names. `prevent_cse` may be False inside
    a scan.

    Errors: UserError, naming the config field, for an unknown policy.
    """
    policy = lookup(REMAT, remat, field)
    if remat == "none":
        return target
    return nn.remat(target, policy=policy, prevent_cse=prevent_cse)  # type: ignore[type-var]
