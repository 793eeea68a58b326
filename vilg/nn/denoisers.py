"""The table of denoisers: the networks of a diffusion generator, as sections of an experiment.

An entry is a frozen dataclass whose fields are the config, beside the network that it configures
(unet.py, dit.py). A denoiser's network is called as

    module(x [b y x c], time [b], context [b m w], pooled [b w], attend [b m] or None)
    -> float32 [b y x outputs]

where `time` is 1000 t, `context` and `pooled` come from the text encoder, and `attend` holds the
knowledge weights W^a (cross_attention.py).
"""

from typing import Protocol

import flax.linen as nn
import jax
import numpy as np

from vilg.nn.dense import DTYPES, Dtype
from vilg.nn.dit import DiTConfig
from vilg.nn.patterns import Grid
from vilg.nn.unet import UNetConfig
from vilg.types import Params


class DenoiserConfig(Protocol):
    """The config of a denoiser, an entry of DENOISERS."""

    @property
    def dtype(self) -> Dtype:
        """The dtype of the computation."""
        ...

    @property
    def factor(self) -> int:
        """The grid's rows and columns must be multiples of this number."""
        ...

    def module(self, outputs: int, grid: Grid, attend_mode: str) -> nn.Module:
        """The network with this many output channels. `grid` is the usual grid; other grids that
        `factor` divides run too.
        """
        ...

    def unrolled(self, params: Params) -> Params:
        """The network's parameters as the same network has them with scan=False."""
        ...


DENOISERS: dict[str, type[DenoiserConfig]] = {"unet": UNetConfig, "dit": DiTConfig}

# the modules of both denoisers that compute in float32 throughout
FLOAT32 = ("time", "conv_out", "out", "row", "column", "last_modulation")


def for_sampling(params: Params, dtype: Dtype) -> Params:
    """A denoiser's parameters in the dtypes in which a computation in `dtype` uses them, which
    every evaluation would otherwise convert again. The same numbers come out, bit for bit.
    """

    def convert(
        path: tuple[jax.tree_util.KeyEntry, ...], x: jax.Array | np.ndarray
    ) -> jax.Array | np.ndarray:
        # the dictionaries' keys; boxes of parameters add entries of another type
        names = [str(entry.key) for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        float32 = names[0] in FLOAT32 or any(
            name.startswith("norm") or name == "modulation" or name.endswith("_scale")
            for name in names
        )
        return x if float32 else x.astype(DTYPES[dtype])

    return jax.tree_util.tree_map_with_path(convert, params)
