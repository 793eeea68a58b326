"""FID's InceptionV3 as a torch module with the published names and random weights: vilg's own is
tested and timed against it.

The architecture is torchvision's with the pools of the port of TensorFlow's network and 1,008
classes; torch-fidelity's module gives the same bits on the same weights. This module imports torch
(the dev extra), so that only inception.py, when it measures, and tests import it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]


class Unit(nn.Module):
    """Convolution, batch norm with fixed statistics, ReLU."""

    def __init__(self, inputs: int, outputs: int, **options: Any):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, bias=False, **options)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, c, y, x] -> the same with other channels."""
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Chains of units side by side, and a pool before one more chain.

    `units` are submodules by name; a chain is a sequence of their names, in which a tuple of names
    stands for units whose outputs are concatenated."""

    def __init__(
        self,
        units: Mapping[str, nn.Module],
        chains: Sequence[Sequence[Any]],
        pool: Callable,
        pooled: Sequence[str],
    ):
        super().__init__()
        for name, unit in units.items():
            setattr(self, name, unit)
        self.chains, self.pool, self.pooled = chains, pool, pooled

    def run(self, chain: Sequence[Any], x: torch.Tensor) -> torch.Tensor:
        """The output of a chain."""
        for name in chain:
            x = (
                torch.cat([getattr(self, n)(x) for n in name], 1)
                if isinstance(name, tuple)
                else getattr(self, name)(x)
            )
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The chains' outputs side by side, the pooled branch last."""
        outputs = [self.run(chain, x) for chain in self.chains]
        return torch.cat([*outputs, self.run(self.pooled, self.pool(x))], 1)


def average_pool(x: torch.Tensor) -> torch.Tensor:
    """A 3x3 average of stride 1 that does not count padding."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def max_pool(x: torch.Tensor) -> torch.Tensor:
    """A 3x3 maximum of stride 1."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halving_pool(x: torch.Tensor) -> torch.Tensor:
    """A 3x3 maximum of stride 2."""
    return F.max_pool2d(x, 3, stride=2)


def block_a(n: int, pool: int) -> Block:
    """35 x 35, of n channels."""
    units = {
        "branch1x1": Unit(n, 64, kernel_size=1),
        "branch5x5_1": Unit(n, 48, kernel_size=1),
        "branch5x5_2": Unit(48, 64, kernel_size=5, padding=2),
        "branch3x3dbl_1": Unit(n, 64, kernel_size=1),
        "branch3x3dbl_2": Unit(64, 96, kernel_size=3, padding=1),
        "branch3x3dbl_3": Unit(96, 96, kernel_size=3, padding=1),
        "branch_pool": Unit(n, pool, kernel_size=1),
    }
    chains = [
        ["branch1x1"],
        ["branch5x5_1", "branch5x5_2"],
        [f"branch3x3dbl_{i}" for i in (1, 2, 3)],
    ]
    return Block(units, chains, average_pool, ["branch_pool"])


def block_b(n: int) -> Block:
    """35 x 35 -> 17 x 17, of n channels."""
    units = {
        "branch3x3": Unit(n, 384, kernel_size=3, stride=2),
        "branch3x3dbl_1": Unit(n, 64, kernel_size=1),
        "branch3x3dbl_2": Unit(64, 96, kernel_size=3, padding=1),
        "branch3x3dbl_3": Unit(96, 96, kernel_size=3, stride=2),
    }
    return Block(units, [["branch3x3"], [f"branch3x3dbl_{i}" for i in (1, 2, 3)]], halving_pool, [])


def block_c(n: int, c: int) -> Block:
    """17 x 17, of n channels."""
    row, column = (
        {"kernel_size": (1, 7), "padding": (0, 3)},
        {"kernel_size": (7, 1), "padding": (3, 0)},
    )
    units = {
        "branch1x1": Unit(n, 192, kernel_size=1),
        "branch7x7_1": Unit(n, c, kernel_size=1),
        "branch7x7_2": Unit(c, c, **row),
        "branch7x7_3": Unit(c, 192, **column),
        "branch7x7dbl_1": Unit(n, c, kernel_size=1),
        "branch7x7dbl_2": Unit(c, c, **column),
        "branch7x7dbl_3": Unit(c, c, **row),
        "branch7x7dbl_4": Unit(c, c, **column),
        "branch7x7dbl_5": Unit(c, 192, **row),
        "branch_pool": Unit(n, 192, kernel_size=1),
    }
    chains = [
        ["branch1x1"],
        [f"branch7x7_{i}" for i in (1, 2, 3)],
        [f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)],
    ]
    return Block(units, chains, average_pool, ["branch_pool"])


def block_d(n: int) -> Block:
    """17 x 17 -> 8 x 8, of n channels."""
    units = {
        "branch3x3_1": Unit(n, 192, kernel_size=1),
        "branch3x3_2": Unit(192, 320, kernel_size=3, stride=2),
        "branch7x7x3_1": Unit(n, 192, kernel_size=1),
        "branch7x7x3_2": Unit(192, 192, kernel_size=(1, 7), padding=(0, 3)),
        "branch7x7x3_3": Unit(192, 192, kernel_size=(7, 1), padding=(3, 0)),
        "branch7x7x3_4": Unit(192, 192, kernel_size=3, stride=2),
    }
    return Block(
        units,
        [["branch3x3_1", "branch3x3_2"], [f"branch7x7x3_{i}" for i in (1, 2, 3, 4)]],
        halving_pool,
        [],
    )


def block_e(n: int, pool: Callable) -> Block:
    """8 x 8, of n channels."""
    row, column = (
        {"kernel_size": (1, 3), "padding": (0, 1)},
        {"kernel_size": (3, 1), "padding": (1, 0)},
    )
    units = {
        "branch1x1": Unit(n, 320, kernel_size=1),
        "branch3x3_1": Unit(n, 384, kernel_size=1),
        "branch3x3_2a": Unit(384, 384, **row),
        "branch3x3_2b": Unit(384, 384, **column),
        "branch3x3dbl_1": Unit(n, 448, kernel_size=1),
        "branch3x3dbl_2": Unit(448, 384, kernel_size=3, padding=1),
        "branch3x3dbl_3a": Unit(384, 384, **row),
        "branch3x3dbl_3b": Unit(384, 384, **column),
        "branch_pool": Unit(n, 192, kernel_size=1),
    }
    double = ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")]
    return Block(
        units,
        [["branch1x1"], ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")], double],
        pool,
        ["branch_pool"],
    )


class TorchInception(nn.Module):
    """[b, 3, H, W] in about [-1, 1] -> (features [b, 2048], logits [b, 1008] without the bias)."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = Unit(32, 64, kernel_size=3, padding=1)
        self.Conv2d_3b_1x1 = Unit(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = Unit(80, 192, kernel_size=3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = (
            block_a(192, 32),
            block_a(256, 64),
            block_a(288, 64),
        )
        self.Mixed_6a = block_b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            block_c(768, c) for c in (128, 160, 160, 192)
        )
        self.Mixed_7a = block_d(768)
        self.Mixed_7b, self.Mixed_7c = block_e(1280, average_pool), block_e(2048, max_pool)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and logits."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = halving_pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(halving_pool(x))))
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = getattr(self, f"Mixed_{name}")(x)
        features = x.mean((2, 3))
        return features, features @ self.fc.weight.T


def random_inception(seed: int = 0) -> TorchInception:
    """The network with random weights and statistics, whose activations stay near 1 throughout."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TorchInception().eval().requires_grad_(False)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=(2.0 / module.weight[0].numel()) ** 0.5)
            if isinstance(module, nn.BatchNorm2d):
                for name, low, high in (
                    ("weight", 0.8, 1.2),
                    ("running_var", 0.8, 1.2),
                    ("bias", -0.2, 0.2),
                    ("running_mean", -0.2, 0.2),
                ):
                    nn.init.uniform_(getattr(module, name), low, high)
    return model
