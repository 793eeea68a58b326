"""The U-Net beside diffusers' UNet2DConditionModel of the same shape (its unCLIP / GLIDE blocks)
and, within 2 %, as many parameters.

Separate from bench_generator because it needs torch and diffusers (the dev extra). Both run in one
process on the same cores, in turns, and are compared in CPU-seconds: a training step is the loss
(mean squared error), its gradient and an AdamW update on both sides; sampling is DDIM steps of one
forward pass each, without guidance and without decoding."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vilg.nn.unet import UNetConfig
from vilg.program import unbox
from vilg.run.bench.generator import Row, alternate

ALPHAS = np.cumprod(
    1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
)  # LDM's schedule (PAPERS 1.5)
DOWN = (
    "ResnetDownsampleBlock2D",
    "SimpleCrossAttnDownBlock2D",
    "SimpleCrossAttnDownBlock2D",
    "SimpleCrossAttnDownBlock2D",
)
UP = (
    "SimpleCrossAttnUpBlock2D",
    "SimpleCrossAttnUpBlock2D",
    "SimpleCrossAttnUpBlock2D",
    "ResnetUpsampleBlock2D",
)


def theirs(channels: int, blocks: int, context: int, head_width: int) -> Any:
    """diffusers' U-Net of the paper's shape, with `channels` instead of 512."""
    from diffusers import UNet2DConditionModel  # type: ignore[import-not-found]

    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=tuple(channels * m for m in (1, 2, 3, 4)),
        layers_per_block=blocks,
        cross_attention_dim=context,
        attention_head_dim=head_width,
        resnet_time_scale_shift="scale_shift",
        down_block_types=DOWN,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=UP,
    )


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
    """Training and DDIM rows; a speedup above 1 says that ours makes more images a CPU-second."""
    import torch  # pyright: ignore[reportMissingImports]

    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    torch.manual_seed(0)
    head_width = min(64, channels)
    their = theirs(channels, blocks, context, head_width)
    module = UNetConfig(channels=channels, blocks=blocks, head_width=head_width, scan=False).module(
        4, (side, side), "prob"
    )
    rng = np.random.default_rng(0)
    x, noise = (rng.standard_normal((batch, side, side, 4)).astype(np.float32) for _ in range(2))
    states, time = (
        rng.standard_normal((batch, text, context)).astype(np.float32),
        np.linspace(1, 999, batch).astype(np.float32),
    )
    ours = x, time, states, states.mean(1)
    shapes = unbox(jax.eval_shape(module.init, jax.random.key(0), *ours))
    params = jax.tree.map(
        lambda p: jnp.asarray(0.02 * rng.standard_normal(p.shape), jnp.float32), shapes
    )  # compiling init takes minutes
    counts = {
        "ours": sum(p.size for p in jax.tree.leaves(params)),
        "diffusers": sum(p.numel() for p in their.parameters()),
    }
    assert abs(counts["ours"] / counts["diffusers"] - 1) < 0.02, counts

    optimizer = optax.adamw(1e-4)
    state = [(params, jax.jit(optimizer.init)(params))]

    @jax.jit
    def update(state: Any) -> Any:
        params, kept = state
        grads = jax.grad(lambda p: jnp.mean((jnp.asarray(module.apply(p, *ours)) - noise) ** 2))(
            params
        )
        updates, kept = optimizer.update(grads, kept, params)
        return optax.apply_updates(params, updates), kept

    def train_ours() -> Any:
        state[0] = jax.block_until_ready(update(state[0]))
        return state[0][0]

    nchw, target = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous() for a in (x, noise))
    times, encoded = torch.from_numpy(time), torch.from_numpy(states)
    adam = torch.optim.AdamW(their.parameters(), lr=1e-4)

    def train_theirs() -> None:
        adam.zero_grad()
        ((their.train()(nchw, times, encoded).sample - target) ** 2).mean().backward()
        adam.step()

    places = np.linspace(999, 0, steps + 1).round().astype(int)
    a, b = (
        np.sqrt(ALPHAS[places]).astype(np.float32),
        np.sqrt(1 - ALPHAS[places]).astype(np.float32),
    )

    def advance(x: Any, eps: Any, i: Any) -> Any:
        return a[i + 1] * (x - b[i] * eps) / a[i] + b[i + 1] * eps

    @jax.jit
    def sample_ours(params: Any) -> Any:
        kept, rest = jnp.asarray(a), jnp.asarray(b)

        def one(i: Any, x: Any) -> Any:
            eps = module.apply(
                params, x, jnp.full(batch, jnp.asarray(places)[i], jnp.float32), states, ours[3]
            )
            return kept[i + 1] * (x - rest[i] * eps) / kept[i] + rest[i + 1] * eps

        return jax.lax.fori_loop(0, steps, one, jnp.asarray(x))

    def sample_theirs() -> None:
        with torch.no_grad():
            y = nchw
            for i in range(steps):
                y = advance(
                    y, their.eval()(y, torch.full((batch,), float(places[i])), encoded).sample, i
                )

    training = alternate({"ours": train_ours, "diffusers": train_theirs}, repeats)
    sampling = alternate(
        {"ours": lambda: sample_ours(state[0][0]), "diffusers": sample_theirs}, max(1, repeats // 2)
    )
    sizes = {
        "channels": channels,
        "parameters": counts["ours"],
        "diffusers_parameters": counts["diffusers"],
        "latents": side,
        "batch": batch,
    }
    return [
        {
            "benchmark": name,
            **sizes,
            "cores": cores,
            "ours_images_per_cpu_second": batch / seconds["ours"],
            "diffusers_images_per_cpu_second": batch / seconds["diffusers"],
            "speedup": seconds["diffusers"] / seconds["ours"],
        }
        for name, seconds in (("unet training", training), (f"unet {steps}-step ddim", sampling))
    ]
