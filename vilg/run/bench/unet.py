"""The U-Net beside diffusers' UNet2DConditionModel of the same shape (its unCLIP / GLIDE blocks)
and, within 2 %, as many parameters.

diffusers needs torch (the dev extra). Both run in one process on the same cores, in turns, and are
compared in CPU-seconds. A training step is the loss (mean squared error), its gradient and an AdamW
update on both sides; sampling is DDIM steps of one forward pass each, without guidance and without
decoding."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from vilg.nn.denoisers import UNetConfig
from vilg.program import unbox
from vilg.run.bench.timing import Row, alternate
from vilg.types import Params

# The cumulated alphas of LDM's noise schedule (PAPERS 1.5), and their square roots.
ALPHAS = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
DOWN = ("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3)
UP = (*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D")


def run(lite: bool) -> list[Row]:
    """The rows on latents of 32 x 32 and of 16 x 16."""
    return measure() + measure(side=16, batch=4)


def measure(
    channels: int = 64,
    blocks: int = 3,
    side: int = 32,
    batch: int = 2,
    text: int = 32,
    context: int = 128,
    steps: int = 50,
    repeats: int = 3,
) -> list[Row]:
    """Training and DDIM rows; a speedup above 1 means that ours makes more pictures a
    CPU-second.
    """
    inputs = Inputs(side, batch, text, context, steps)
    theirs = Diffusers(channels, blocks, inputs)
    ours = Ours(channels, blocks, inputs)
    counts = ours.parameters, theirs.parameters
    assert abs(counts[0] / counts[1] - 1) < 0.02, counts
    training = alternate({"ours": ours.train, "diffusers": theirs.train}, repeats)
    sampling = alternate({"ours": ours.sample, "diffusers": theirs.sample}, max(1, repeats // 2))
    sizes = {
        "channels": channels,
        "parameters": counts[0],
        "diffusers_parameters": counts[1],
        "latents": side,
        "batch": batch,
    }
    return [
        {
            "benchmark": name,
            **sizes,
            "cores": len(os.sched_getaffinity(0)),
            "ours_images_per_cpu_second": batch / seconds["ours"].cpu,
            "diffusers_images_per_cpu_second": batch / seconds["diffusers"].cpu,
            "speedup": seconds["diffusers"].cpu / seconds["ours"].cpu,
        }
        for name, seconds in (("unet training", training), (f"unet {steps}-step ddim", sampling))
    ]


class Inputs:
    """Latents, noise, times and encoded text of both sides, and the steps of DDIM."""

    def __init__(self, side: int, batch: int, text: int, context: int, steps: int):
        self.side, self.batch, self.context, self.steps = side, batch, context, steps
        self.rng = rng = np.random.default_rng(0)
        shape = (batch, side, side, 4)
        self.x, self.noise = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        self.states = rng.standard_normal((batch, text, context)).astype(np.float32)
        self.times = np.linspace(1, 999, batch).astype(np.float32)
        self.places = np.linspace(999, 0, steps + 1).round().astype(int)
        self.signal = np.sqrt(ALPHAS[self.places]).astype(np.float32)
        self.sigma = np.sqrt(1 - ALPHAS[self.places]).astype(np.float32)


def ddim(x: Any, eps: Any, signal: Any, sigma: Any, i: Any) -> Any:
    """x after step i of DDIM; arrays of JAX or tensors of torch."""
    return signal[i + 1] * (x - sigma[i] * eps) / signal[i] + sigma[i + 1] * eps


class Ours:
    """The U-Net: `train` and `sample` do the work once."""

    def __init__(self, channels: int, blocks: int, inputs: Inputs):
        head_width = min(64, channels)
        config = UNetConfig(channels=channels, blocks=blocks, head_width=head_width, scan=False)
        module = config.module(4, (inputs.side, inputs.side), "prob")
        states, pooled = inputs.states, inputs.states.mean(1)
        arguments = inputs.x, inputs.times, states, pooled
        shapes = unbox(jax.eval_shape(module.init, jax.random.key(0), *arguments))
        # random numbers instead of module.init, which takes minutes to compile
        self.params: Params = jax.tree.map(
            lambda p: jnp.asarray(0.02 * inputs.rng.standard_normal(p.shape), jnp.float32), shapes
        )
        optimizer = optax.adamw(1e-4)
        self.optimizer_state = jax.jit(optimizer.init)(self.params)

        @jax.jit
        def update(params: Params, state: optax.OptState) -> tuple[Params, optax.OptState]:
            def loss(params: Params) -> Array:
                eps = jnp.asarray(module.apply(params, *arguments))
                return jnp.mean((eps - inputs.noise) ** 2)

            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        @jax.jit
        def sample(params: Params) -> Float[Array, "b y x c"]:
            signal, sigma = jnp.asarray(inputs.signal), jnp.asarray(inputs.sigma)

            def step(i: Array, x: Array) -> Array:
                t = jnp.full(inputs.batch, jnp.asarray(inputs.places)[i], jnp.float32)
                return ddim(x, module.apply(params, x, t, states, pooled), signal, sigma, i)

            return jax.lax.fori_loop(0, inputs.steps, step, jnp.asarray(inputs.x))

        self.update, self.sampler = update, sample

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(p.size for p in jax.tree.leaves(self.params))

    def train(self) -> Params:
        """One update, from which the next one goes on."""
        self.params, self.optimizer_state = jax.block_until_ready(
            self.update(self.params, self.optimizer_state)
        )
        return self.params

    def sample(self) -> Float[Array, "b y x c"]:
        """Latents of a batch."""
        return self.sampler(self.params)


class Diffusers:
    """diffusers' U-Net of the paper's shape, with `channels` instead of 512."""

    def __init__(self, channels: int, blocks: int, inputs: Inputs):
        import diffusers  # pyright: ignore[reportMissingImports]
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.manual_seed(0)
        self.torch, self.inputs = torch, inputs
        network: Any = diffusers.UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
        self.model = network(
            in_channels=4,
            out_channels=4,
            block_out_channels=tuple(channels * m for m in (1, 2, 3, 4)),
            layers_per_block=blocks,
            cross_attention_dim=inputs.context,
            attention_head_dim=min(64, channels),
            resnet_time_scale_shift="scale_shift",
            down_block_types=DOWN,
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=UP,
        )
        self.x, self.noise = (
            torch.from_numpy(a).permute(0, 3, 1, 2).contiguous() for a in (inputs.x, inputs.noise)
        )
        self.times, self.states = torch.from_numpy(inputs.times), torch.from_numpy(inputs.states)
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def train(self) -> None:
        """One update."""
        self.adam.zero_grad()
        eps = self.model.train()(self.x, self.times, self.states).sample
        ((eps - self.noise) ** 2).mean().backward()
        self.adam.step()

    def sample(self) -> None:
        """Latents of a batch."""
        inputs = self.inputs
        with self.torch.no_grad():
            x = self.x
            for i in range(inputs.steps):
                t = self.torch.full((inputs.batch,), float(inputs.places[i]))
                eps = self.model.eval()(x, t, self.states).sample
                x = ddim(x, eps, inputs.signal, inputs.sigma, i)
