"""The U-Net denoiser of ERNIE-ViLG 2.0: the ADM / GLIDE family, whose parameter count is the
paper's (PAPERS 1.4).

Convolutional, so that any grid runs whose sides the number of halvings divides. With `scan`,
consecutive blocks of equal sizes have their parameters stacked along "layers" and are compiled
once; `unrolled` gives the parameters of the same U-Net without."""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.config import require
from vilg.nn.convolution import convolution, group_norm
from vilg.nn.dense import rematerialised, repeated
from vilg.nn.time_embed import TimeEmbed
from vilg.nn.unet_blocks import EPSILON, AttentionBlock, ResidualBlock, Step, placed
from vilg.parallel.axes import named

REMAT_FIELD = "generator.denoiser.remat"


class UNet(nn.Module):
    """The denoiser; the result is float32.

    `multipliers` of `channels`, one a level, with `blocks` residual blocks each (one more on the
    way up); attention where the grid is smaller by a factor in `attention`, and in the middle. The
    time embedding is 4 * channels wide; `pooled_text` adds to it a linear function of the pooled
    text (GLIDE; the paper's parameter count is without). Errors: UserError for a grid that the
    halvings do not divide."""

    outputs: int
    channels: int
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 3
    attention: tuple[int, ...] = (2, 4, 8)
    head_width: int = 64
    groups: int = 32
    pooled_text: bool = False
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
        levels = len(self.multipliers)
        factor, (rows, columns) = 2 ** (levels - 1), x.shape[1:3]
        require(
            rows % factor == 0 and columns % factor == 0,
            "grid",
            (rows, columns),
            f"must be multiples of {factor}, as the U-Net halves them {levels - 1} times",
        )
        embedding = TimeEmbed(self.channels, 4 * self.channels, self.dtype, name="time")(
            time, pooled if self.pooled_text else None
        )
        shared = (embedding, context.astype(self.dtype), attend)
        h = placed(convolution(self.channels, "conv_in", dtype=self.dtype)(x.astype(self.dtype)))
        skips = [h]
        for level in range(levels):
            h, kept = self._level(f"down_{level}", level, self.blocks, h, None, shared)
            skips += kept
            if level < levels - 1:
                h = self._residual(f"downsample_{level}", h, embedding, "down")
                skips.append(h)
        h = self._residual("middle_in", h, embedding)
        h = AttentionBlock(*self._attention(), name="middle_attention")(h, *shared[1:])
        h = self._residual("middle_out", h, embedding)
        for level in reversed(range(levels)):
            used = [skips.pop() for _ in range(self.blocks + 1)]
            h, _ = self._level(f"up_{level}", level, self.blocks + 1, h, used, shared)
            if level:
                h = self._residual(f"upsample_{level}", h, embedding, "up")
        h = placed(nn.silu(group_norm(self.groups, "norm_out", jnp.float32, EPSILON)(h)))
        zeros = nn.initializers.zeros_init()  # the axes of a head, which Muon leaves alone
        return nn.Conv(
            self.outputs,
            (3, 3),
            kernel_init=named(zeros, None, None, "embed", None),
            bias_init=named(zeros, None),
            name="conv_out",
        )(h)

    def _attention(self) -> tuple:
        return (
            self.head_width,
            self.groups,
            self.attend_mode,
            self.chunk,
            self.implementation,
            self.dtype,
        )

    def _residual(self, name: str, h: Array, embedding: Array, resample: Any = "none") -> Array:
        block = rematerialised(ResidualBlock, self.remat, REMAT_FIELD)
        return block(h.shape[-1], self.groups, resample, self.dtype, name=name)(h, embedding)

    def _level(
        self,
        name: str,
        level: int,
        count: int,
        h: Array,
        skips: list[Array] | None,
        shared: tuple[Array, Array, Array | None],
    ) -> tuple[Array, list[Array]]:
        """`count` steps of a level, each run of equal ones as one; their states too."""
        channels = self.channels * self.multipliers[level]
        fields = (channels, 2**level in self.attention, *self._attention())
        widths = [h.shape[-1]] + [channels] * (count - 1)
        sizes = [
            (width, None if skips is None else skips[i].shape[-1]) for i, width in enumerate(widths)
        ]
        kept: list[Array] = []
        for _, run in itertools.groupby(range(count), key=lambda i: sizes[i] if self.scan else i):
            first, *rest = run
            step, beside = (
                rematerialised(Step, self.remat, REMAT_FIELD),
                None if skips is None else skips[first],
            )
            if rest:
                over = () if skips is None else (0,)
                step = repeated(Step, 1 + len(rest), True, self.remat, REMAT_FIELD, 4, over)
                beside = None if skips is None else jnp.stack([skips[i] for i in (first, *rest)])
            h, states = step(*fields, name=f"{name}_{first}")(h, beside, *shared)
            kept += list(states) if rest else [states]
        return h, kept


def unrolled(params: Any) -> Any:
    """A scanned U-Net's parameters as the same U-Net has them with scan=False.

    Sampling on a CPU wants it, once before its loop: slices of stacked weights are copies, an
    eighth of a forward pass (bench_unet.py)."""
    out = {}
    for name, block in params.items():
        kernel = block["residual"]["conv_in"]["kernel"] if "residual" in block else None
        if kernel is None or kernel.ndim == 4:
            out[name] = block
            continue
        prefix, _, first = name.rpartition("_")
        for i in range(kernel.shape[0]):
            out[f"{prefix}_{int(first) + i}"] = jax.tree.map(lambda x, i=i: x[i], block)
    return out
