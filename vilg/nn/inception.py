"""The InceptionV3 by which FID is defined: the TensorFlow graph of 2015-12-05, as ported to torch
(`pt_inception-2015-12-05-6726825d.pth`).

Szegedy et al. 2016, with the port's differences from torchvision's: average pools do not count
padding, the last block pools by maximum, and there are 1008 classes. Batch norm has fixed
statistics here, so it is folded into the convolutions when weights are read. Submodules have the
published names. For inference only: no axis names, no training.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vilg.nn.published import Published, nested, shapes_by_path
from vilg.types import Params

SIDE, WIDTH, CLASSES = 299, 2048, 1008  # pixels of the published input, features, logits
EPSILON = 1e-3  # of the batch norms
NETWORK = "FID's InceptionV3 (pt_inception-2015-12-05-6726825d.pth)"


def unit(
    x: Array,
    name: str,
    features: int,
    size: int | tuple[int, int] = 1,
    stride: int = 1,
    padded: bool = True,
) -> Array:
    """A convolution, with a batch norm folded into it, and ReLU; called inside a compact method.
    `padded` keeps the size at stride 1; otherwise there is no padding.
    """
    kernel = (size, size) if isinstance(size, int) else size
    padding = [(k // 2, k // 2) if padded else (0, 0) for k in kernel]
    convolution = nn.Conv(features, kernel, stride, padding=padding, name=name)
    return nn.relu(convolution(x))


def maximum(x: Array, stride: int = 2) -> Array:
    """A 3x3 max-pool: of stride 2 without padding, or of stride 1 with it."""
    padding = (1, 1) if stride == 1 else (0, 0)
    return nn.max_pool(x, (3, 3), (stride, stride), (padding, padding))  # type: ignore[arg-type]


def mean(x: Array) -> Array:
    """A 3x3 average of stride 1 over the pixels of the image, without the padding."""
    borders = ((1, 1), (1, 1))
    return nn.avg_pool(x, (3, 3), (1, 1), borders, count_include_pad=False)  # type: ignore


def joined(*branches: Array) -> Array:
    """The branches' channels one after the other."""
    return jnp.concatenate(branches, -1)


class BlockA(nn.Module):
    """35 x 35: 1x1, 5x5, two 3x3, and `pool` features of an average."""

    pool: int

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y x f"]:
        five = unit(unit(x, "branch5x5_1", 48), "branch5x5_2", 64, 5)
        double = unit(
            unit(unit(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, 3), "branch3x3dbl_3", 96, 3
        )
        return joined(
            unit(x, "branch1x1", 64), five, double, unit(mean(x), "branch_pool", self.pool)
        )


class BlockB(nn.Module):
    """35 x 35 -> 17 x 17."""

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b p q f"]:
        double = unit(unit(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, 3)
        double = unit(double, "branch3x3dbl_3", 96, 3, stride=2, padded=False)
        return joined(unit(x, "branch3x3", 384, 3, stride=2, padded=False), double, maximum(x))


class BlockC(nn.Module):
    """17 x 17: 7x7 convolutions as rows and columns, `inner` channels wide."""

    inner: int

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y x f"]:
        single, double = unit(x, "branch7x7_1", self.inner), unit(x, "branch7x7dbl_1", self.inner)
        for i, (size, features) in enumerate((((1, 7), self.inner), ((7, 1), 192)), 2):
            single = unit(single, f"branch7x7_{i}", features, size)
        for i, (size, features) in enumerate(
            (((7, 1), self.inner), ((1, 7), self.inner), ((7, 1), self.inner), ((1, 7), 192)), 2
        ):
            double = unit(double, f"branch7x7dbl_{i}", features, size)
        return joined(unit(x, "branch1x1", 192), single, double, unit(mean(x), "branch_pool", 192))


class BlockD(nn.Module):
    """17 x 17 -> 8 x 8."""

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b p q f"]:
        three = unit(unit(x, "branch3x3_1", 192), "branch3x3_2", 320, 3, stride=2, padded=False)
        seven = unit(
            unit(unit(x, "branch7x7x3_1", 192), "branch7x7x3_2", 192, (1, 7)),
            "branch7x7x3_3",
            192,
            (7, 1),
        )
        return joined(
            three, unit(seven, "branch7x7x3_4", 192, 3, stride=2, padded=False), maximum(x)
        )


class BlockE(nn.Module):
    """8 x 8: 3x3 convolutions as rows beside columns. Of the two blocks the first pools by the
    average, the second by the maximum.
    """

    max_pool: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y x f"]:
        single = unit(x, "branch3x3_1", 384)
        double = unit(unit(x, "branch3x3dbl_1", 448), "branch3x3dbl_2", 384, 3)
        parts = [
            unit(inside, f"{name}{side}", 384, size)
            for inside, name in ((single, "branch3x3_2"), (double, "branch3x3dbl_3"))
            for side, size in (("a", (1, 3)), ("b", (3, 1)))
        ]
        pooled = maximum(x, 1) if self.max_pool else mean(x)
        return joined(unit(x, "branch1x1", 320), *parts, unit(pooled, "branch_pool", 192))


class Inception(nn.Module):
    """Images of about [-1, 1] -> (features [b, 2048] of the last pool, logits [b, 1008] without the
    bias, which the Inception Score leaves out).

    The published side is 299; every side from 75 on gives numbers.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "b H W 3"]
    ) -> tuple[Float[Array, "b d"], Float[Array, "b v"]]:
        x = unit(x, "Conv2d_1a_3x3", 32, 3, stride=2, padded=False)
        x = unit(unit(x, "Conv2d_2a_3x3", 32, 3, padded=False), "Conv2d_2b_3x3", 64, 3)
        x = unit(maximum(x), "Conv2d_3b_1x1", 80)
        x = maximum(unit(x, "Conv2d_4a_3x3", 192, 3, padded=False))
        for letter, pool in (("b", 32), ("c", 64), ("d", 64)):
            x = BlockA(pool, name=f"Mixed_5{letter}")(x)
        x = BlockB(name="Mixed_6a")(x)
        for letter, inner in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            x = BlockC(inner, name=f"Mixed_6{letter}")(x)
        x = BlockD(name="Mixed_7a")(x)
        for letter, max_pool in (("b", False), ("c", True)):
            x = BlockE(max_pool, name=f"Mixed_7{letter}")(x)
        features = x.mean((1, 2))
        return features, nn.Dense(CLASSES, use_bias=False, name="fc")(features)


def from_state(state: Mapping[str, np.ndarray], path: str = "weights") -> Params:
    """The parameters from a published state dict.

    Errors: UserError naming the first key that is missing, of another shape or left over.
    """
    published = Published(state, NETWORK, path)
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    arrays: dict[tuple[str, ...], np.ndarray] = {}
    for where, shape in shapes_by_path(Inception(), images).items():
        *module, leaf = where
        if leaf == "bias":
            continue  # read with its kernel
        if module == ["fc"]:
            arrays[where] = published.take("fc.weight", shape[::-1]).T
            published.take("fc.bias", shape[-1:])
            continue
        name = ".".join(module)
        kernel = published.take(f"{name}.conv.weight", (shape[3], shape[2], shape[0], shape[1]))
        gain, shift, average, variance = (
            published.take(f"{name}.bn.{part}", shape[3:])
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + np.float32(EPSILON))
        arrays[where] = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0) * scale)
        arrays[(*module, "bias")] = shift - average * scale
    published.finish(ignored=("num_batches_tracked",))
    return nested(arrays)
