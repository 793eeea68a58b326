"""The transformer denoiser (DiT, arXiv 2212.09748): patches of the code grid, modulated by time and
text, that see the text states.

Each block's attention has the text's keys and values beside its own (PAPERS 1.4: the paper's U-Net
does so); time and the pooled text shift, scale and gate every block (adaLN). Not in ERNIE-ViLG 2.0:
a second entry of the table of denoisers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vilg.config import require
from vilg.nn.cross_attention import JointAttention
from vilg.nn.dense import FeedForward, dense, repeated
from vilg.nn.time_embed import TimeEmbed
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain


class Modulation(nn.Module):
    """`kinds` vectors of the condition's width, zero at first."""

    kinds: int

    @nn.compact
    def __call__(self, condition: Float[Array, "b d"]) -> list[Array]:
        d, zeros = condition.shape[-1], nn.initializers.zeros_init()
        kernel = self.param(
            "kernel", named(zeros, "embed", None, "mlp"), (d, self.kinds, d), jnp.float32
        )
        bias = self.param("bias", named(zeros, None, "embed"), (self.kinds, d), jnp.float32)
        made = jnp.einsum("bd,dzf->bzf", nn.silu(condition.astype(jnp.float32)), kernel) + bias
        return [made[:, z, None] for z in range(self.kinds)]


class DiTBlock(nn.Module):
    """Attention and feed-forward, each normed, scaled and shifted before and gated after."""

    heads: int
    hidden: int
    layers: int
    attend_mode: str
    gate: float
    qk_norm: bool
    rotary_base: float
    chunk: int
    implementation: str
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        condition: Float[Array, "b d"],
        context: Float[Array, "b m w"],
        attend: Float[Array, "b m"] | None,
        places: Float[Array, "n 2"],
    ) -> tuple[Float[Array, "b n d"], None]:
        width, depth = x.shape[-1], (2 * self.layers) ** -0.5
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = Modulation(6, name="modulation")(
            condition
        )
        attention = JointAttention(
            self.heads,
            width // self.heads,
            depth * width**-0.5,
            self.attend_mode,
            self.qk_norm,
            self.rotary_base,
            self.chunk,
            self.implementation,
            self.dtype,
            name="attention",
        )
        y = attention(plain_norm(x) * (1 + scale) + shift, context, attend, places)
        x = x + ((self.gate + gate) * y).astype(self.dtype)
        feed_forward = FeedForward(
            self.hidden, depth * self.hidden**-0.5, self.dtype, name="feed_forward"
        )
        y = feed_forward(plain_norm(x) * (1 + mlp_scale) + mlp_shift)
        return (
            constrain(
                x + ((self.gate + mlp_gate) * y).astype(self.dtype), "batch", "length", "embed"
            ),
            None,
        )


class DiT(nn.Module):
    """The denoiser; the result is float32. Learned positions are those of `grid`, and are
    interpolated for any other.

    `gate`: what a block's gates start from, 0 (adaLN-Zero, as published) or 1 (an ordinary
    transformer at first). Errors: UserError where a patch does not divide the grid."""

    outputs: int
    grid: tuple[int, int]
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    patch: int = 1
    gate: float = 0.0
    rotary_base: float = 0.0
    qk_norm: bool = False
    embed_scale: float = 0.02
    attend_mode: str = "prob"
    chunk: int = 0
    implementation: str = "auto"
    remat: str = "none"
    scan: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b y x c"],
        time: Float[Array, " b"],
        context: Float[Array, "b m w"],
        pooled: Float[Array, "b w"],
        attend: Float[Array, "b m"] | None = None,
    ) -> Float[Array, "b y x o"]:
        b, rows, columns, c = x.shape
        p, d = self.patch, self.width
        require(
            rows % p == 0 and columns % p == 0,
            "grid",
            (rows, columns),
            f"must be multiples of generator.denoiser.patch={p}",
        )
        y, w = rows // p, columns // p
        patches = (
            x.reshape(b, y, p, w, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, y * w, p * p * c)
        )
        tokens = dense(d, (None, "embed"), "patches", nn.initializers.lecun_normal(), self.dtype)(
            patches.astype(self.dtype)
        )
        tokens = constrain(
            (tokens + self._positions(y, w)).astype(self.dtype), "batch", "length", "embed"
        )
        condition = TimeEmbed(d, d, name="time")(time, pooled)
        blocks = repeated(
            DiTBlock, self.layers, self.scan, self.remat, "generator.denoiser.remat", 4
        )(
            self.heads,
            int(d * self.mlp_ratio),
            self.layers,
            self.attend_mode,
            self.gate,
            self.qk_norm,
            self.rotary_base,
            self.chunk,
            self.implementation,
            self.dtype,
            name="blocks",
        )
        places = jnp.asarray(np.stack(np.divmod(np.arange(y * w), w), 1).astype(np.float32))
        tokens, _ = blocks(tokens, condition, context.astype(self.dtype), attend, places)
        shift, scale = Modulation(2, name="last_modulation")(condition)
        out = dense(p * p * self.outputs, ("embed", None), "out", nn.initializers.zeros_init())(
            plain_norm(tokens) * (1 + scale) + shift
        )
        return (
            out.reshape(b, y, w, p, p, self.outputs)
            .transpose(0, 1, 3, 2, 4, 5)
            .reshape(b, rows, columns, self.outputs)
        )

    def _positions(self, rows: int, columns: int) -> Float[Array, "n d"]:
        init, p, d = nn.initializers.normal(self.embed_scale), self.patch, self.width
        row = self.param("row", named(init, "rows", "embed"), (self.grid[0] // p, d), jnp.float32)
        column = self.param(
            "column", named(init, "columns", "embed"), (self.grid[1] // p, d), jnp.float32
        )
        row, column = (
            t if t.shape[0] == n else jax.image.resize(t, (n, d), "linear")
            for t, n in ((row, rows), (column, columns))
        )
        return (row[:, None] + column).reshape(rows * columns, d)


def plain_norm(x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """Zero mean, unit variance along the last axis, float32, no parameters."""
    y = x.astype(jnp.float32)
    y = y - y.mean(-1, keepdims=True)
    return y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-6)
