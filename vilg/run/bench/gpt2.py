"""The autoregressive generator beside Hugging Face's GPT-2 of the same size: decoding and training.

GPT-2 needs torch and transformers (the dev extra). Both sides run in one process on one core and
are compared in CPU-seconds."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vilg.generators.guidance import Controls
from vilg.run.bench.models import IMAGE_VOCABULARY, TEXT_VOCABULARY, random_generator
from vilg.run.bench.timing import Row, alternate
from vilg.training.optimizer import Optimizer
from vilg.types import Params


def run(lite: bool) -> list[Row]:
    """The rows of a small model, and with `lite` those at the width of ERNIE-ViLG's lite model."""
    return measure() + (measure(width=1024, heads=16, repeats=1) if lite else [])


def measure(
    width: int = 256,
    layers: int = 4,
    heads: int = 4,
    text: int = 64,
    side: int = 16,
    batch: int = 2,
    repeats: int = 3,
) -> list[Row]:
    """Decoding side x side codes after a prompt, and one AdamW update in both directions, beside
    GPT-2 with as many layers and positions.

    Training is compared per position of a stream: an update of the generator runs two streams of
    text and codes a row, one a direction; GPT-2's runs one."""
    length, codes = text + side * side, side * side
    gpt2 = GPT2(width, layers, heads, text, codes, batch)
    ours = Ours(width, layers, heads, text, side, batch)
    decode = alternate({"ours": ours.decode, "gpt2": gpt2.decode}, repeats)
    train = alternate({"ours": ours.train, "gpt2": gpt2.train}, repeats)
    sizes = {
        "width": width,
        "layers": layers,
        "text": text,
        "codes": codes,
        "batch": batch,
        "cores": len(os.sched_getaffinity(0)),
    }
    per_update = train["gpt2"].cpu / train["ours"].cpu
    return [
        {
            "benchmark": "gpt2 decoding",
            **sizes,
            "ours_cpu_seconds": decode["ours"].cpu,
            "gpt2_cpu_seconds": decode["gpt2"].cpu,
            "speedup": decode["gpt2"].cpu / decode["ours"].cpu,
        },
        {
            "benchmark": "gpt2 training",
            **sizes,
            "ours_cpu_seconds": train["ours"].cpu,
            "gpt2_cpu_seconds": train["gpt2"].cpu,
            "ours_positions": 2 * batch * length,
            "gpt2_positions": batch * length,
            "speedup": 2 * per_update,
            "speedup_per_update": per_update,
        },
    ]


class Ours:
    """The generator: `decode` and `train` do the work once."""

    def __init__(self, width: int, layers: int, heads: int, text: int, side: int, batch: int):
        generator, params, axes = random_generator(
            width,
            layers,
            heads,
            text,
            (side, side),
            patterns="dense",
            attention="dense",
            scan=False,
        )
        ids = jnp.full((batch, text), 7, jnp.int32)
        codes = jnp.ones((batch, side * side), jnp.int32)
        keys = jax.random.split(jax.random.key(1), batch)
        optimizer = Optimizer(kind="adamw", learning_rate=1e-4).build(1000, axes)
        self.params, self.optimizer_state = params, optimizer.init(params)

        @jax.jit
        def sample(params: Params) -> jax.Array:
            return generator.sample(params, ids, keys, Controls())

        @jax.jit
        def update(params: Params, state: optax.OptState) -> tuple[Params, optax.OptState]:
            batch = {"text": ids, "codes": codes}
            gradients = jax.grad(lambda p: generator.loss(p, batch, keys[0], jnp.int32(0))[0])(
                params
            )
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        self.sample, self.update = sample, update

    def decode(self) -> jax.Array:
        """Codes of a batch of prompts."""
        return self.sample(self.params)

    def train(self) -> tuple[Params, optax.OptState]:
        """Parameters and optimizer state after one update."""
        return self.update(self.params, self.optimizer_state)


class GPT2:
    """Hugging Face's GPT-2: `decode` and `train` do the work once."""

    def __init__(self, width: int, layers: int, heads: int, text: int, codes: int, batch: int):
        import torch  # pyright: ignore[reportMissingImports]
        import transformers  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.torch, self.codes = torch, codes
        self.model: Any = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=TEXT_VOCABULARY + IMAGE_VOCABULARY,
                n_positions=text + codes,
                n_embd=width,
                n_layer=layers,
                n_head=heads,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        self.prompt = torch.full((batch, text), 7)
        self.stream = torch.randint(0, TEXT_VOCABULARY, (batch, text + codes))
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def decode(self) -> None:
        """Samples codes after the prompts."""
        with self.torch.no_grad():
            self.model.eval().generate(
                self.prompt,
                max_new_tokens=self.codes,
                min_new_tokens=self.codes,
                do_sample=True,
                use_cache=True,
                pad_token_id=0,
            )

    def train(self) -> None:
        """One update with clipped gradients."""
        self.model.train()
        self.adam.zero_grad()
        self.model(self.stream, labels=self.stream).loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
