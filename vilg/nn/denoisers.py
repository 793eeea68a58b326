"""Denoisers and the text encoder as sections of an experiment: dataclasses whose fields are the
config, and the table of names.

Separate from the modules, which check nothing, so that a bad field is one sentence when the
experiment is built. Every denoiser module is called as module(x [b y x c], time [b] (1000 t),
context [b m d], pooled [b d], attend [b m] or None) -> float32 [b y x o]."""

import dataclasses
from typing import Any, Literal, Protocol

import flax.linen as nn
import jax

from vilg.config import lookup, require
from vilg.nn.attention import check_implementation
from vilg.nn.cross_attention import ATTEND, IMPLEMENTATIONS
from vilg.nn.dense import DTYPES
from vilg.nn.dit import DiT
from vilg.nn.text_encoder import TextEncoder
from vilg.nn.transformer import REMAT
from vilg.nn.unet import UNet, unrolled

Dtype = Literal["float32", "bfloat16"]


class DenoiserConfig(Protocol):
    """What an entry of DENOISERS is."""

    @property
    def factor(self) -> int:
        """Rows and columns must be multiples of it."""
        ...

    def module(
        self, outputs: int, context_width: int, grid: tuple[int, int], attend_mode: str
    ) -> nn.Module:
        """The denoiser that puts out `outputs` channels; `grid` is the usual one, others that
        `factor` divides run too.
        """
        ...

    def unrolled(self, params: Any) -> Any:
        """One denoiser's parameters as the same denoiser has them with scan=False."""
        ...


FLOAT32 = (
    "time",
    "conv_out",
    "out",
    "row",
    "column",
    "last_modulation",
)  # modules of both denoisers that compute in float32 throughout


def for_sampling(params: Any, dtype: Dtype) -> Any:
    """One denoiser's parameters in the type in which its computation of this `dtype` uses them:
    what every evaluation would otherwise convert again. The same numbers come out, bit for bit."""

    def one(path: Any, x: Any) -> Any:
        names = [entry.key for entry in path if hasattr(entry, "key")]  # without those of boxes
        kept = names[0] in FLOAT32 or any(
            name.startswith("norm") or name == "modulation" or name.endswith("_scale")
            for name in names
        )
        return x if kept else x.astype(DTYPES[dtype])

    return jax.tree_util.tree_map_with_path(one, params)


def check_transformer(
    path: str, width: int, layers: int, heads: int, mlp_ratio: float, rotary_base: float, remat: str
) -> None:
    """What every stack of transformer blocks needs."""
    require(width > 0 and width % 2 == 0, f"{path}.width", width, "must be even and at least 2")
    require(layers > 0, f"{path}.layers", layers, "must be at least 1")
    require(
        heads > 0 and width % heads == 0,
        f"{path}.heads",
        heads,
        f"must divide {path}.width={width}",
    )
    require(
        mlp_ratio * width >= 1,
        f"{path}.mlp_ratio",
        mlp_ratio,
        "must leave the feed-forward layer a width of at least 1",
    )
    fits = rotary_base == 0 or (rotary_base > 1 and width // heads % 4 == 0)
    require(
        fits,
        f"{path}.rotary_base",
        rotary_base,
        "must be 0, or above 1 with heads of a multiple of 4",
    )
    lookup(REMAT, remat, f"{path}.remat")


def check_attention(implementation: str, query_chunk: int) -> None:
    """The two fields of every denoiser that say how its attention is computed."""
    path = "generator.denoiser"
    check_implementation(implementation, f"{path}.attention_implementation", IMPLEMENTATIONS)
    chunked = implementation in ("auto", "chunked")
    remedy = (
        f"needs attention_implementation=auto or chunked; {implementation} takes all queries at"
        " once"
    )
    require(
        query_chunk >= 0,
        f"{path}.query_chunk",
        query_chunk,
        "must be 0 (all queries at once) or more",
    )
    require(chunked or not query_chunk, f"{path}.query_chunk", query_chunk, remedy)


def check_grid(grid: tuple[int, int], factor: int, path: str, why: str) -> None:
    """Raises a UserError unless the factor divides both sides."""
    require(
        grid[0] % factor == 0 and grid[1] % factor == 0,
        "codec grid",
        grid,
        f"must be multiples of {factor} for {path}.{why}",
    )


@dataclasses.dataclass(frozen=True)
class TextEncoderConfig:
    """The text encoder (paper: 24 layers of 2048, 32 heads)."""

    width: int = 128
    layers: int = 2
    heads: int = 4
    mlp_ratio: float = 4.0
    window: int = 0  # ids before it that each state holds too (vilg/nn/embed.py; the paper: 0)
    embed_scale: float = 0.02
    qk_norm: bool = False
    dtype: Dtype = "float32"
    remat: str = "none"
    scan: bool = True

    def __post_init__(self) -> None:
        check_transformer(
            "generator.text", self.width, self.layers, self.heads, self.mlp_ratio, 0.0, self.remat
        )

    def module(self, vocabulary: int, length: int) -> TextEncoder:
        """ids [b, length] -> (states [b, length, width], pooled [b, width])."""
        remedy = f"must be below data.text.length={length}"
        require(self.window < length, "generator.text.window", self.window, remedy)
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return TextEncoder(vocabulary, length, **{**fields, "dtype": DTYPES[self.dtype]})


@dataclasses.dataclass(frozen=True)
class DiTConfig:
    """A transformer over patches of the code grid (not the paper's)."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp_ratio: float = 4.0
    patch: int = 1  # rows and columns of codes in a token
    zero_gates: bool = (
        True  # every block starts as the identity (adaLN-Zero); otherwise gates start at one
    )
    rotary_base: float = 0.0  # rotary positions beside the learned ones; 0: none
    qk_norm: bool = False
    embed_scale: float = 0.02
    query_chunk: int = 0  # queries taken at a time, to save memory on large grids; 0: all
    attention_implementation: str = (
        "auto"  # or chunked, dot_product, splash (vilg/nn/cross_attention.py)
    )
    dtype: Dtype = "float32"
    remat: str = "none"
    scan: bool = True

    def __post_init__(self) -> None:
        path = "generator.denoiser"
        check_transformer(
            path, self.width, self.layers, self.heads, self.mlp_ratio, self.rotary_base, self.remat
        )
        require(self.patch > 0, f"{path}.patch", self.patch, "must be at least 1")
        check_attention(self.attention_implementation, self.query_chunk)

    @property
    def factor(self) -> int:
        """Rows and columns must be multiples of it."""
        return self.patch

    def module(
        self, outputs: int, context_width: int, grid: tuple[int, int], attend_mode: str
    ) -> nn.Module:
        """The Linen module."""
        lookup(ATTEND, attend_mode, "generator.knowledge.attention_mode")
        check_grid(grid, self.factor, "generator.denoiser", f"patch={self.patch}")
        return DiT(
            outputs,
            grid,
            self.width,
            self.layers,
            self.heads,
            self.mlp_ratio,
            self.patch,
            0.0 if self.zero_gates else 1.0,
            self.rotary_base,
            self.qk_norm,
            self.embed_scale,
            attend_mode,
            self.query_chunk,
            self.attention_implementation,
            self.remat,
            self.scan,
            DTYPES[self.dtype],
        )

    def unrolled(self, params: Any) -> Any:
        """The parameters themselves: layers are stacked whether or not they are scanned."""
        return params


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """The paper's U-Net; its 2.2 B is channels=512 with a text encoder of 2048 (ablation: 320 and
    1280), all else as here.
    """

    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 3
    attention: tuple[int, ...] = (
        2,
        4,
        8,
    )  # where the grid is smaller by these factors; in the middle always
    head_width: int = 64
    groups: int = 32  # of the group norms
    # adds the pooled text to the time embedding, as GLIDE does (for the paper unknown; its count is
    # without)
    pooled_text: bool = False
    query_chunk: int = 0  # queries taken at a time, to save memory on large grids; 0: all
    attention_implementation: str = (
        "auto"  # or chunked, dot_product, splash (vilg/nn/cross_attention.py)
    )
    dtype: Dtype = "float32"
    remat: str = "none"
    scan: bool = True

    def __post_init__(self) -> None:
        path = "generator.denoiser"
        require(
            self.channels > 0 and self.channels % 2 == 0,
            f"{path}.channels",
            self.channels,
            "must be even and at least 2",
        )
        require(
            len(self.multipliers) > 0 and min(self.multipliers) > 0,
            f"{path}.multipliers",
            self.multipliers,
            "must be one or more, each at least 1",
        )
        require(self.blocks > 0, f"{path}.blocks", self.blocks, "must be at least 1")
        factors = [2**level for level in range(len(self.multipliers))]
        require(
            set(self.attention) <= set(factors),
            f"{path}.attention",
            self.attention,
            f"must be of {factors}, by which the levels are smaller",
        )
        require(
            self.groups > 0 and self.channels % self.groups == 0,
            f"{path}.groups",
            self.groups,
            f"must divide {path}.channels={self.channels}",
        )
        for factor, multiplier in zip(factors, self.multipliers, strict=True):
            wide = self.channels * multiplier
            fits = self.head_width > 0 and wide % self.head_width == 0
            needed = factor in self.attention or factor == factors[-1]
            require(
                fits or not needed,
                f"{path}.head_width",
                self.head_width,
                f"must divide the {wide} channels of the level that is smaller by {factor}",
            )
        lookup(REMAT, self.remat, f"{path}.remat")
        check_attention(self.attention_implementation, self.query_chunk)

    @property
    def factor(self) -> int:
        """Rows and columns must be multiples of it."""
        return 2 ** (len(self.multipliers) - 1)

    def module(
        self, outputs: int, context_width: int, grid: tuple[int, int], attend_mode: str
    ) -> nn.Module:
        """The Linen module."""
        lookup(ATTEND, attend_mode, "generator.knowledge.attention_mode")
        check_grid(grid, self.factor, "generator.denoiser", f"multipliers={self.multipliers}")
        return UNet(
            outputs,
            self.channels,
            self.multipliers,
            self.blocks,
            self.attention,
            self.head_width,
            self.groups,
            self.pooled_text,
            attend_mode,
            self.query_chunk,
            self.attention_implementation,
            self.remat,
            self.scan,
            DTYPES[self.dtype],
        )

    def unrolled(self, params: Any) -> Any:
        """Scanned blocks apart."""
        return unrolled(params)


DENOISERS: dict[str, type] = {"unet": UNetConfig, "dit": DiTConfig}
