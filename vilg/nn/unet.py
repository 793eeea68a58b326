"""The U-Net denoiser of ERNIE-ViLG 2.0: of the ADM / GLIDE family, with the paper's parameter count
(PAPERS 1.4).

It is convolutional, so that every grid runs whose sides the number of halvings divides. With `scan`
consecutive blocks of equal sizes have their parameters stacked along "layers" and are compiled
once; `unrolled` gives the parameters of the same U-Net without.
"""

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vilg.config import lookup, require
from vilg.nn.config_checks import check_denoiser_attention, check_divides_grid
from vilg.nn.convolution import convolution, group_norm
from vilg.nn.cross_attention import ATTEND, AttentionOptions
from vilg.nn.dense import DTYPES, Dtype, repeated
from vilg.nn.patterns import Grid
from vilg.nn.remat import REMAT, rematerialised
from vilg.nn.time_embed import TimeEmbed
from vilg.nn.unet_blocks import (
    EPSILON,
    AttentionBlock,
    Resample,
    ResidualBlock,
    Step,
    place,
)
from vilg.parallel.axes import named
from vilg.types import Params

PATH = "generator.denoiser"


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """The paper's U-Net, as a section of an experiment. Its 2.2 B parameters are channels=512 with
    a text encoder of width 2048 (its ablation: 320 and 1280), all else as here.
    """

    channels: int = 64  # channels at the size of the grid
    multipliers: tuple[int, ...] = (1, 2, 3, 4)  # of `channels`, one a level
    blocks: int = 3  # residual blocks a level, one more on the way up
    # attention where the grid is smaller by one of these factors, and always in the middle
    attention: tuple[int, ...] = (2, 4, 8)
    head_width: int = 64  # width of an attention head
    groups: int = 32  # of the group norms
    # adds a linear function of the pooled text to the time embedding, as GLIDE does (unknown for
    # the paper, whose parameter count is without)
    pooled_text: bool = False
    query_chunk: int = 0  # queries taken at a time, to save memory on large grids; 0: all
    # auto, chunked, dot_product or splash (vilg/nn/cross_attention.py)
    attention_implementation: str = "auto"
    dtype: Dtype = "float32"  # of activations; parameters and the optimizer's moments are float32
    # what a block keeps for its backward pass: a name in REMAT (vilg/nn/remat.py)
    remat: str = "none"
    scan: bool = True  # blocks of one kind as one scanned loop: quick to compile

    def __post_init__(self) -> None:
        require(
            self.channels > 0 and self.channels % 2 == 0,
            f"{PATH}.channels",
            self.channels,
            "must be even and at least 2",
        )
        require(
            len(self.multipliers) > 0 and min(self.multipliers) > 0,
            f"{PATH}.multipliers",
            self.multipliers,
            "must be one or more, each at least 1",
        )
        require(self.blocks > 0, f"{PATH}.blocks", self.blocks, "must be at least 1")
        require(
            set(self.attention) <= set(self.factors),
            f"{PATH}.attention",
            self.attention,
            f"must be of {self.factors}, by which the levels are smaller",
        )
        require(
            self.groups > 0 and self.channels % self.groups == 0,
            f"{PATH}.groups",
            self.groups,
            f"must divide {PATH}.channels={self.channels}",
        )
        self._check_head_width()
        lookup(REMAT, self.remat, f"{PATH}.remat")
        check_denoiser_attention(self.attention_implementation, self.query_chunk)

    def _check_head_width(self) -> None:
        """The heads must divide the channels of every level that has attention."""
        for factor, multiplier in zip(self.factors, self.multipliers, strict=True):
            channels = self.channels * multiplier
            fits = self.head_width > 0 and channels % self.head_width == 0
            attends = factor in self.attention or factor == self.factor
            require(
                fits or not attends,
                f"{PATH}.head_width",
                self.head_width,
                f"must divide the {channels} channels of the level that is smaller by {factor}",
            )

    @property
    def factors(self) -> list[int]:
        """How much smaller the grid is at each level."""
        return [2**level for level in range(len(self.multipliers))]

    @property
    def factor(self) -> int:
        """The grid's rows and columns must be multiples of this number."""
        return self.factors[-1]

    def module(self, outputs: int, grid: Grid, attend_mode: str) -> nn.Module:
        """The network (DenoiserConfig.module). Errors: UserError for an unknown mode or a grid that
        the halvings do not divide.
        """
        lookup(ATTEND, attend_mode, "generator.knowledge.attention_mode")
        check_divides_grid(self.factor, grid, PATH, f"multipliers={self.multipliers}")
        return UNet(self, outputs, attend_mode)

    def attention_options(self, attend_mode: str) -> AttentionOptions:
        """The options that every block's attention has."""
        return AttentionOptions(
            attend_mode=attend_mode,
            query_chunk=self.query_chunk,
            implementation=self.attention_implementation,
            dtype=DTYPES[self.dtype],
        )

    def unrolled(self, params: Params) -> Params:
        """The parameters of scanned blocks, a block at a time."""
        return unrolled(params)


class UNet(nn.Module):
    """The network of a UNetConfig; the result is float32. The time embedding is 4 * channels wide.

    Errors: UserError for a grid that the halvings do not divide.
    """

    config: UNetConfig
    outputs: int
    attend_mode: str

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b y x c"],
        time: Float[Array, " b"],
        context: Float[Array, "b m w"],
        pooled: Float[Array, "b w"],
        attend: Float[Array, "b m"] | None = None,
    ) -> Float[Array, "b y x o"]:
        c, dtype, (rows, columns) = self.config, DTYPES[self.config.dtype], x.shape[1:3]
        levels = len(c.multipliers)
        require(
            rows % c.factor == 0 and columns % c.factor == 0,
            "grid",
            (rows, columns),
            f"must be multiples of {c.factor}, as the U-Net halves them {levels - 1} times",
        )
        embedding = TimeEmbed(c.channels, 4 * c.channels, dtype, name="time")(
            time, pooled if c.pooled_text else None
        )
        shared = (embedding, context.astype(dtype), attend)
        h = place(convolution(c.channels, "conv_in", dtype=dtype)(x.astype(dtype)))
        skips = [h]
        for level in range(levels):
            h, states = self._level(f"down_{level}", level, c.blocks, h, None, shared)
            skips += states
            if level < levels - 1:
                h = self._residual(f"downsample_{level}", h, embedding, "down")
                skips.append(h)
        h = self._residual("middle_in", h, embedding)
        h = AttentionBlock(*self._attention_fields(), name="middle_attention")(h, *shared[1:])
        h = self._residual("middle_out", h, embedding)
        for level in reversed(range(levels)):
            used = [skips.pop() for _ in range(c.blocks + 1)]
            h, _ = self._level(f"up_{level}", level, c.blocks + 1, h, used, shared)
            if level:
                h = self._residual(f"upsample_{level}", h, embedding, "up")
        h = place(nn.silu(group_norm(c.groups, "norm_out", jnp.float32, EPSILON)(h)))
        zeros = nn.initializers.zeros_init()  # the axes of an output head, which Muon leaves alone
        return nn.Conv(
            self.outputs,
            (3, 3),
            kernel_init=named(zeros, None, None, "embed", None),
            bias_init=named(zeros, None),
            name="conv_out",
        )(h)

    def _attention_fields(self) -> tuple[int, int, AttentionOptions]:
        c = self.config
        return c.head_width, c.groups, c.attention_options(self.attend_mode)

    def _residual(
        self, name: str, h: Array, embedding: Array, resample: Resample = "none"
    ) -> Array:
        c = self.config
        block = rematerialised(ResidualBlock, c.remat, f"{PATH}.remat")
        return block(h.shape[-1], c.groups, resample, DTYPES[c.dtype], name=name)(h, embedding)

    def _level(
        self,
        name: str,
        level: int,
        count: int,
        h: Array,
        skips: list[Array] | None,
        shared: tuple[Array, Array, Array | None],
    ) -> tuple[Array, list[Array]]:
        """The last state and all states of `count` steps of a level. On the way up every step takes
        one of `skips`. With `scan`, consecutive steps of equal sizes are one scanned module, named
        after the first of them.
        """
        c = self.config
        channels = c.channels * c.multipliers[level]
        fields = (channels, 2**level in c.attention, *self._attention_fields())
        widths = [h.shape[-1]] + [channels] * (count - 1)
        sizes = [
            (width, None if skips is None else skips[i].shape[-1]) for i, width in enumerate(widths)
        ]
        out: list[Array] = []
        for _, run in itertools.groupby(range(count), key=lambda i: sizes[i] if c.scan else i):
            first, *rest = run
            if rest:
                sliced = () if skips is None else (0,)
                step = repeated(Step, 1 + len(rest), True, c.remat, f"{PATH}.remat", 4, sliced)
                skip = None if skips is None else jnp.stack([skips[i] for i in (first, *rest)])
            else:
                step = rematerialised(Step, c.remat, f"{PATH}.remat")
                skip = None if skips is None else skips[first]
            h, states = step(*fields, name=f"{name}_{first}")(h, skip, *shared)
            out += list(states) if rest else [states]
        return h, out


def unrolled(params: Params) -> Params:
    """A scanned U-Net's parameters as the same U-Net has them with scan=False.

    Sampling on a CPU needs them so, once before its loop: slices of stacked weights are copies, an
    eighth of a forward pass (vilg/run/bench/unet.py).
    """
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
