"""The whole generator: cached against uncached decoding, and decoding and training beside Hugging
Face's GPT-2 of the same size.

Separate from bench_attention because it times models, not functions. GPT-2 needs torch and
transformers (the dev extra); everything runs on one core, both sides in one process, and is
compared in CPU-seconds."""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vilg.generators.autoregressive import Autoregressive
from vilg.generators.guidance import Controls
from vilg.program import axes_of, unbox
from vilg.training.optimizer import Optimizer

Row = dict[str, Any]
TEXT_VOCABULARY, IMAGE_VOCABULARY = 512, 1024


def generator(
    width: int, layers: int, heads: int, text: int, grid: tuple[int, int], **options: Any
) -> tuple[Autoregressive, Any, Any]:
    """(generator, parameters, their logical axes) at random."""
    sizes = dict(
        text_length=text,
        grid=grid,
        text_vocabulary=TEXT_VOCABULARY,
        image_vocabulary=IMAGE_VOCABULARY,
    )
    made = Autoregressive(**sizes, width=width, layers=layers, heads=heads, **options)  # type: ignore[arg-type]
    boxed = jax.eval_shape(made.init, jax.random.key(0))
    return made, jax.jit(lambda: unbox(made.init(jax.random.key(0))))(), axes_of(boxed)


def measure_caching(
    width: int = 1024,
    layers: int = 4,
    heads: int = 16,
    text: int = 64,
    side: int = 32,
    positions: int = 16,
) -> list[Row]:
    """Decoding all codes with the cache, against running the whole stream again for every code
    (timed at `positions` places, and multiplied up: a forward pass costs the same at each)."""
    rows = []
    for patterns in ("dense", "ernie_vilg"):
        made, params, _ = generator(
            width, layers, heads, text, (side, side), patterns=patterns, scan=False
        )
        ids = jnp.full((1, text), 7, jnp.int32)
        keys = jax.random.split(jax.random.key(1), 1)
        cached = jax.jit(
            lambda p, made=made, ids=ids, keys=keys: made.sample(p, ids, keys, Controls())
        )
        codes = cached(params).reshape(1, -1)

        def whole(p: Any, codes: Any, k: Any, made: Autoregressive = made, ids: Any = ids) -> Any:
            logits = made.network.apply({"params": p}, ids, codes, method="image_given_text")
            return jnp.argmax(jax.lax.dynamic_index_in_dim(logits, k, 1), -1)

        uncached = jax.jit(whole)
        places = np.linspace(0, side * side - 1, positions).astype(int)
        fast = cpu_seconds(lambda c=cached, p=params: c(p), 1)
        slow = (
            statistics.median(
                cpu_seconds(lambda k=k, u=uncached, p=params, c=codes: u(p, c, k), 1)
                for k in places
            )
            * side
            * side
        )
        rows.append(
            {
                "benchmark": "caching",
                "patterns": patterns,
                "width": width,
                "layers": layers,
                "codes": side * side,
                "cached_cpu_seconds": fast,
                "uncached_cpu_seconds": slow,
                "uncached_timed_at": positions,
                "speedup": slow / fast,
            }
        )
    return rows


def measure_gpt2(
    width: int = 256,
    layers: int = 4,
    heads: int = 4,
    text: int = 64,
    side: int = 16,
    batch: int = 2,
    repeats: int = 3,
) -> list[Row]:
    """Decoding side * side codes after a prompt, and one AdamW update on both directions, beside
    GPT-2 with as many layers and positions.

    Training is compared per position of a stream: our update runs two streams of text + codes a row
    (one a direction), GPT-2's one."""
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    torch.manual_seed(0)
    length, n = text + side * side, side * side
    config = transformers.GPT2Config(
        vocab_size=TEXT_VOCABULARY + IMAGE_VOCABULARY,
        n_positions=length,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    theirs = transformers.GPT2LMHeadModel(config)
    prompt = torch.full((batch, text), 7)

    def decode_theirs() -> None:
        with torch.no_grad():
            theirs.eval().generate(  # type: ignore[attr-defined]
                prompt,
                max_new_tokens=n,
                min_new_tokens=n,
                do_sample=True,
                use_cache=True,
                pad_token_id=0,
            )

    stream = torch.randint(0, TEXT_VOCABULARY, (batch, length))
    adam = torch.optim.AdamW(theirs.parameters(), lr=1e-4)

    def train_theirs() -> None:
        theirs.train()
        adam.zero_grad()
        theirs(stream, labels=stream).loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        adam.step()

    made, params, axes = generator(
        width, layers, heads, text, (side, side), patterns="dense", attention="dense", scan=False
    )
    ids = jnp.full((batch, text), 7, jnp.int32)
    codes = jnp.ones((batch, n), jnp.int32)
    keys = jax.random.split(jax.random.key(1), batch)
    sample = jax.jit(lambda p: made.sample(p, ids, keys, Controls()))
    optimizer = Optimizer(kind="adamw", learning_rate=1e-4).build(1000, axes)
    state = {"params": params, "optimizer": optimizer.init(params)}

    @jax.jit
    def update(state: Any) -> Any:
        grads = jax.grad(
            lambda p: made.loss(p, {"text": ids, "codes": codes}, keys[0], jnp.int32(0))[0]
        )(state["params"])
        updates, kept = optimizer.update(grads, state["optimizer"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "optimizer": kept}

    decode = alternate({"ours": lambda: sample(params), "gpt2": decode_theirs}, repeats)
    train = alternate({"ours": lambda: update(state), "gpt2": train_theirs}, repeats)
    sizes = {
        "width": width,
        "layers": layers,
        "text": text,
        "codes": n,
        "batch": batch,
        "cores": len(os.sched_getaffinity(0)),
    }
    return [
        {
            "benchmark": "gpt2 decoding",
            **sizes,
            "ours_cpu_seconds": decode["ours"],
            "gpt2_cpu_seconds": decode["gpt2"],
            "speedup": decode["gpt2"] / decode["ours"],
        },
        {
            "benchmark": "gpt2 training",
            **sizes,
            "ours_cpu_seconds": train["ours"],
            "gpt2_cpu_seconds": train["gpt2"],
            "ours_positions": 2 * batch * length,
            "gpt2_positions": batch * length,
            "speedup": 2 * train["gpt2"] / train["ours"],
            "speedup_per_update": train["gpt2"] / train["ours"],
        },
    ]


def cpu_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median CPU-seconds of a call, after one warm-up."""
    jax.block_until_ready(call())
    return statistics.median(once(call) for _ in range(repeats))


def alternate(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU-seconds of each call, taken in turns after one warm-up."""
    for call in calls.values():
        jax.block_until_ready(call())
    seen: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seen[name].append(once(call))
    return {name: statistics.median(values) for name, values in seen.items()}


def once(call: Callable[[], Any]) -> float:
    """CPU-seconds of one call of this process."""
    began = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - began
