"""ERNIE-ViLG 2.0: a diffusion generator whose time is divided among denoising experts (arXiv
2210.15257; PAPERS 1).

    text ids --text encoder--> states [b m d], pooled [b d]
    codes --process.corrupt at t--> noisy --denoiser(t, states)--> output
    output --process.loss--> loss of each position [b y x]

The generator is three classes, each of which extends the one before: the network (denoising.py),
its sampling (stepwise.py) and, in this file, its training and its scores of texts."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vilg.generators.guidance import empty_prompt
from vilg.generators.stepwise import StepwiseSampling
from vilg.processes.splits import expert_of
from vilg.types import Batch, Metrics, Params

AGREEMENT_TIMES = 8  # times at which `agreement` takes the training loss


@dataclasses.dataclass(frozen=True)
class Diffusion(StepwiseSampling):
    """The generator; its fields are the config. Implements Trainable, Generator, Stepwise, Ranker
    and NoiseConditional."""

    def times(self, key: Array, b: int) -> Float[Array, " b"]:
        """The training times of a batch: the rows are n equal runs, and the times of the k-th run
        lie in the slice of expert k."""
        slices = self.experts.trained
        keys, rows = jax.random.split(key, len(slices)), b // len(slices)
        edges = [(float(self.edges[k]), float(self.edges[k + 1])) for k in slices]
        return jnp.concatenate(
            [
                self.process.draw_times(keys[i], rows, low, high)
                for i, (low, high) in enumerate(edges)
            ]
        )

    def loss(self, params: Params, batch: Batch, key: Array, step: Array) -> tuple[Array, Metrics]:
        """The mean over positions of the process's loss at one time for each row; each position's
        loss is multiplied by the weight of its region."""
        keys, text, codes = jax.random.split(key, 3), batch["text"], batch["codes"]
        dropped = jax.random.bernoulli(keys[0], self.drop_text, (text.shape[0], 1))
        t = self.times(keys[1], text.shape[0])
        attend = self._attend(batch, dropped)
        prompt = jnp.where(dropped, empty_prompt(text), text)
        per_position = self._per_position(params, prompt, codes, t, keys[2], attend)
        per_row = jnp.mean(per_position * self._region(batch), (1, 2))
        loss = jnp.mean(per_row)
        return loss, self._by_expert(per_row, t)

    def _per_position(
        self, params: Params, text: Array, codes: Array, t: Array, key: Array, attend: Any = None
    ) -> Float[Array, "b y x"]:
        noisy = self.process.corrupt(codes, t, key)
        states, pooled = self.encode_text(params, text)
        output = self.denoise_slices(params, noisy, t, states, pooled, attend)
        return self.process.loss(output, codes, noisy, t)

    def _by_expert(self, per_row: Float[Array, " b"], t: Float[Array, " b"]) -> Metrics:
        """With several experts: the loss of each, and its share of the rows (the histogram of
        utilisation)."""
        n = self.experts.n
        if n == 1:
            return {}
        owner = jax.nn.one_hot(expert_of(t, self.edges), n)
        shares = jnp.mean(owner, 0)
        losses = per_row @ owner / jnp.maximum(jnp.sum(owner, 0), 1)
        return {
            f"expert_{k}/{name}": v[k]
            for k in range(n)
            for name, v in (("loss", losses), ("share", shares))
        }

    def _attend(self, batch: Batch, dropped: Array) -> Any:
        """W^a [b m], which is 1 + w_a on key words (ERNIE-ViLG 2.0, eqs. 8-9). None where no key
        words are marked or the weight is 0."""
        if "key" not in batch or not self.knowledge.attention_weight:
            return None
        return 1 + self.knowledge.attention_weight * (batch["key"] & ~dropped).astype(jnp.float32)

    def _region(self, batch: Batch) -> Any:
        """W^l [b y x], which is 1 + w_l in the regions (ERNIE-ViLG 2.0, eqs. 10-11)."""
        if "region" not in batch or not self.knowledge.region_weight:
            return 1.0
        weights = 1 + self.knowledge.region_weight * batch["region"].astype(jnp.float32)
        return weights**self.knowledge.region_power

    # --- scores of texts --------------------------------------------------------------------------

    def errors_at(
        self, params: Params, text: Int[Array, "b m"], codes: Array, t: Float[Array, ""]
    ) -> Float[Array, " b"]:
        """The error of each row's prediction of its codes at one time (Process.error)."""
        return self._measure_at(self.process.error, params, text, codes, t)

    def _measure_at(
        self,
        measure: Callable,
        params: Params,
        text: Int[Array, "b m"],
        codes: Array,
        t: Float[Array, ""],
    ) -> Float[Array, " b"]:
        """`measure` of each row at one time, under the expert that owns the time.

        The noise is a function of the row's codes and the time, so a row has the same noise with
        every text and at every place in a batch, and texts can be compared."""

        def key_of(row: Array) -> Array:
            return jax.random.fold_in(jax.random.key(0), jnp.sum(row * 1024).astype(jnp.int32))

        def corrupt(row: Array, key: Array) -> Array:
            return self.process.corrupt(row[None], t[None], key)[0]

        keys = jax.vmap(key_of)(codes)
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, (t * 1e6).astype(jnp.int32))
        noisy = jax.vmap(corrupt)(codes, keys)
        states, pooled = self.encode_text(params, text)
        times = jnp.full((text.shape[0],), t)
        weights = self.expert_params(params, expert_of(t, self.edges))
        output = self.denoise(weights, noisy, times, states, pooled)
        return jnp.mean(measure(output, codes, noisy, times), (1, 2))

    def levels(self, n: int) -> Float[Array, " n"]:
        """n increasing times, one from each of n equal shares of the training times (with
        experts.only: of that expert's slice)."""
        only = self.experts.only
        low, high = (0.0, 1.0) if only < 0 else self.edges[only : only + 2]
        return jnp.sort(self.process.draw_times(jax.random.key(0), n, float(low), float(high)))

    def agreement(self, params: Params, text: Int[Array, "b m"], codes: Any) -> Float[Array, " b"]:
        """Minus the mean training loss at AGREEMENT_TIMES times."""

        def add_loss(total: Array, t: Array) -> tuple[Array, None]:
            return total + self._measure_at(self.process.loss, params, text, codes, t), None

        times = self.levels(AGREEMENT_TIMES)
        total, _ = jax.lax.scan(add_loss, jnp.zeros((text.shape[0],)), times)
        return -total / AGREEMENT_TIMES
