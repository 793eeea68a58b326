"""Linear layers with named axes, the GELU feed-forward layer, and how equal blocks are repeated.

Separate from transformer.py, whose blocks know patterns, directions and caches: these know nothing
but widths."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.config import lookup
from vilg.nn.transformer import REMAT
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def dense(
    features: int,
    axes: tuple[str | None, str | None],
    name: str,
    init: Callable,
    dtype: Any = jnp.float32,
) -> nn.Dense:
    """A linear layer; `axes` are the names of its kernel's two dimensions. Parameters are float32,
    compute is in `dtype`.
    """
    bias = named(nn.initializers.zeros_init(), axes[1])
    return nn.Dense(
        features, dtype=dtype, kernel_init=named(init, *axes), bias_init=bias, name=name
    )


class FeedForward(nn.Module):
    """width -> hidden, GELU, -> width; `out_scale` is the last layer's initial standard
    deviation.
    """

    hidden: int
    out_scale: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        width = x.shape[-1]
        y = dense(
            self.hidden, ("embed", "mlp"), "mlp_in", nn.initializers.normal(width**-0.5), self.dtype
        )(x.astype(self.dtype))
        y = constrain(nn.gelu(y), "batch", "length", "mlp")
        return dense(
            width, ("mlp", "embed"), "mlp_out", nn.initializers.normal(self.out_scale), self.dtype
        )(y)


def rematerialised(block: Any, remat: str, field: str, prevent_cse: bool = True) -> Any:
    """`block`, which in the backward pass keeps what `remat` says (a name of transformer.REMAT;
    `field` is where the config says it).
    """
    policy = lookup(REMAT, remat, field)
    return block if remat == "none" else nn.remat(block, policy=policy, prevent_cse=prevent_cse)


def repeated(
    block: Any,
    length: int,
    scan: bool,
    remat: str,
    field: str,
    arguments: int,
    over: tuple[int, ...] = (),
) -> Any:
    """`block` with parameters of its own for each of `length` repeats, stacked along "layers"
    whether or not they are scanned.

    A block is called as block(carry, *arguments) -> (carry, output). Arguments whose index is in
    `over` have a leading axis of repeats, the others are shared. `scan` compiles the block once;
    otherwise the repeats are laid out one after the other."""
    return nn.scan(
        rematerialised(block, remat, field, prevent_cse=not scan),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=tuple(0 if i in over else nn.broadcast for i in range(arguments)),  # type: ignore[arg-type]
        length=length,
        unroll=1 if scan else length,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
