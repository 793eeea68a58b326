"""Linear layers with named axes, the GELU feed-forward layer, and the repetition of equal blocks.

Separate from transformer.py, whose blocks know patterns, directions and caches: these layers know
nothing but widths.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vilg.nn.remat import rematerialised
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain

Dtype = Literal["float32", "bfloat16"]  # the value of a config's field `dtype`
DTYPES: dict[str, DTypeLike] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def dense(
    features: int,
    axes: tuple[str | None, str | None],
    name: str,
    init: Initializer,
    dtype: DTypeLike = jnp.float32,
) -> nn.Dense:
    """A linear layer; `axes` are the names of its kernel's two dimensions. The parameters are
    float32, the computation is in `dtype`.
    """
    bias = named(nn.initializers.zeros_init(), axes[1])
    return nn.Dense(
        features, dtype=dtype, kernel_init=named(init, *axes), bias_init=bias, name=name
    )


class FeedForward(nn.Module):
    """width -> hidden, GELU, -> width. `out_scale` is the initial standard deviation of the second
    layer's kernel.
    """

    hidden: int
    out_scale: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        width = x.shape[-1]
        init = nn.initializers.normal
        first = dense(self.hidden, ("embed", "mlp"), "mlp_in", init(width**-0.5), self.dtype)
        second = dense(width, ("mlp", "embed"), "mlp_out", init(self.out_scale), self.dtype)
        y = constrain(nn.gelu(first(x.astype(self.dtype))), "batch", "length", "mlp")
        return second(y)


def repeated(
    block: type[nn.Module],
    length: int,
    scan: bool,
    remat: str,
    field: str,
    arguments: int,
    sliced: tuple[int, ...] = (),
) -> Callable[..., nn.Module]:
    """A class of modules that apply `length` blocks one after the other, each with parameters of
    its own. The parameters are stacked along the axis "layers" whether or not the blocks are
    scanned.

    A block is called as block(carry, *arguments) -> (carry, output); `arguments` is their number.
    Those whose index is in `sliced` have a leading axis of repeats, the others are shared by all
    blocks. `scan` compiles the block once; otherwise the compiler sees every repeat. `remat` and
    `field` are those of `rematerialised`.
    """
    return nn.scan(
        rematerialised(block, remat, field, prevent_cse=not scan),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=tuple(  # type: ignore[arg-type]
            0 if i in sliced else nn.broadcast for i in range(arguments)
        ),
        length=length,
        unroll=1 if scan else length,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
