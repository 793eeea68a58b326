"""The transformer block for TPUs: the same layer with the same parameters, whose attention over the
whole stream keeps positions last.

The kernel of splash.py takes queries, keys and values as [b h k l]. Here the projections write
arrays of that order by themselves, which spares the passes that would turn them around, and every
other part of the layer follows the order that the kernel wants:

- the scale of the queries is applied to the smaller array, the weights (under qk_norm: to the
  norm's scale), and so once for both passes;
- a column layer turns its stream column by column before its norm, where it is narrowest, and back
  at its end, since all but attention treats positions alike;
- the stream is padded to whole blocks before its projection: one copy instead of three.

Separate from transformer.py, which says what a block computes: this file says how to compute it
where a kernel has an order of its own. `block_class` is the choice between the two.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from vilg.nn import attention
from vilg.nn.geometry import Directions
from vilg.nn.norms import rms_norm
from vilg.nn.rotary import rotate, stream_places
from vilg.nn.splash import columns_first, padded_length, rows_first, splash_positions_last
from vilg.nn.transformer import Block
from vilg.parallel.constrain import constrain, is_split


@dataclass(frozen=True)
class Kernel:
    """An implementation of attention that takes scaled queries, keys and values as [b h k l], the
    image positions column by column for a column-major pattern, and gives [b h l k];
    `padded_length(l)` is the length to which it pads a stream.
    """

    attend: Callable[..., Array]
    padded_length: Callable[[int], int]


KERNELS = {"splash": Kernel(splash_positions_last, padded_length)}


def block_class(implementation: str) -> type[Block]:
    """The class of a trunk's blocks: PositionsLastBlock for an implementation of KERNELS on the
    devices that the program is compiled for, else Block.
    """
    return PositionsLastBlock if attention.resolve(implementation) in KERNELS else Block


class PositionsLastBlock(Block):
    """A Block whose whole-stream attention is a kernel of KERNELS. Decoding is Block's."""

    def full(self, x: Float[Array, "b l d"], directions: Directions) -> Float[Array, "b l d"]:
        c, parts = self.config, self.geometries(directions)
        kernel = KERNELS[attention.resolve(c.implementation)]
        places = jnp.asarray(stream_places(c.text_length, c.grid))
        if self.pattern.column_major:
            x = columns_first(x, c.text_length, c.grid)
            places = columns_first(places[None], c.text_length, c.grid)[0]
        length = x.shape[1]
        # padding a stream whose positions are split over devices would move it
        padded = length if is_split("length", length) else kernel.padded_length(length)
        q, k, v = self.project_positions_last(x, places, padded)
        attended = kernel.attend(q, k, v, parts)
        attended = constrain(attended, "batch", "heads", "length", "head_dim")
        out = jnp.einsum("bhlk,hkd->bld", attended, self.out.astype(c.dtype))[:, :length]
        x = self.feed_forward(checkpoint_name(x + out, "middle"))
        if self.pattern.column_major:
            x = constrain(rows_first(x, c.text_length, c.grid), "batch", "length", "embed")
        return x

    def project_positions_last(
        self, x: Float[Array, "b l d"], places: Float[Array, "l 2"], padded: int
    ) -> list[Float[Array, "b h k p"]]:
        """Scaled queries, keys and values of the stream, padded to `padded` >= l positions."""
        c, more = self.config, padded - x.shape[1]
        scale = c.head_size**-0.5
        y = jnp.pad(self.norm_attention(x).astype(c.dtype), ((0, 0), (0, more), (0, 0)))
        places = jnp.pad(places, ((0, more), (0, 0)))
        factors = jnp.array([1.0 if c.qk_norm else scale, 1, 1])
        weights = self.qkv.reshape(c.width, 3, c.width) * factors[:, None]
        weights = weights.astype(c.dtype)
        parts = [
            jnp.einsum("bld,de->bel", y, weights[:, z]).reshape(
                x.shape[0], c.heads, c.head_size, padded
            )
            for z in range(3)
        ]
        parts = [
            checkpoint_name(constrain(part, "batch", "heads", "head_dim", "length"), "qkv")
            for part in parts
        ]
        if c.qk_norm or c.rotary_base:
            q, k = (jnp.moveaxis(part, 3, 1) for part in parts[:2])
            if c.qk_norm:
                q, k = rms_norm(q, self.q_scale * scale), rms_norm(k, self.k_scale)
            if c.rotary_base:
                q, k = rotate(q, places, c.rotary_base), rotate(k, places, c.rotary_base)
            parts[:2] = jnp.moveaxis(q, 1, 3), jnp.moveaxis(k, 1, 3)
        return parts
