"""ERNIE-ViLG 2.0: a diffusion generator whose time is shared out among denoising experts (arXiv
2210.15257; PAPERS 1).

    text ids --text encoder--> states [b m d], pooled [b d]
    codes --process.corrupt at t--> noisy --denoiser(t, states)--> output
    output --process.loss--> loss of each position [b y x]

Three classes, each one's fields and methods on top of the one before: the network (denoising.py),
its sampling (stepwise.py) and, here, its training and the likelihood-like scores of texts."""

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

LEVELS = 8  # times at which `agreement` looks


@dataclasses.dataclass(frozen=True)
class Diffusion(StepwiseSampling):
    """The generator: fields are the config. Implements Trainable, Generator, Stepwise, Ranker and
    NoiseConditional.
    """

    def times(self, key: Array, b: int) -> Float[Array, " b"]:
        """Training times of a batch: n equal runs of rows, the k-th within expert k's slice."""
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
        """Mean over positions of the process's loss at one time a row, each position times its
        region's weight.
        """
        keys, text, codes = jax.random.split(key, 3), batch["text"], batch["codes"]
        dropped = jax.random.bernoulli(keys[0], self.drop_text, (text.shape[0], 1))
        t = self.times(keys[1], text.shape[0])
        attend = self._attend(batch, dropped)
        prompt = jnp.where(dropped, empty_prompt(text), text)
        per_row = jnp.mean(
            self._per_position(params, prompt, codes, t, keys[2], attend) * self._region(batch),
            (1, 2),
        )
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
        """Where there are several, each expert's loss and its share of the rows (the histogram of
        utilisation).
        """
        n = self.experts.n
        if n == 1:
            return {}
        mine = jax.nn.one_hot(expert_of(t, self.edges), n)
        shares = jnp.mean(mine, 0)
        losses = per_row @ mine / jnp.maximum(jnp.sum(mine, 0), 1)
        return {
            f"expert_{k}/{name}": v[k]
            for k in range(n)
            for name, v in (("loss", losses), ("share", shares))
        }

    def _attend(self, batch: Batch, dropped: Array) -> Any:
        """W^a [b m], 1 + w_a on key words (ERNIE-ViLG 2.0, eqs. 8-9); None where nothing is marked
        or the weight is 0.
        """
        if "key" not in batch or not self.knowledge.attention_weight:
            return None
        return 1 + self.knowledge.attention_weight * (batch["key"] & ~dropped).astype(jnp.float32)

    def _region(self, batch: Batch) -> Any:
        """W^l [b y x], 1 + w_l in the regions (eqs. 10-11)."""
        if "region" not in batch or not self.knowledge.region_weight:
            return 1.0
        return (
            1 + self.knowledge.region_weight * batch["region"].astype(jnp.float32)
        ) ** self.knowledge.region_power

    # --- scores of texts --------------------------------------------------------------------------

    def errors_at(
        self, params: Params, text: Int[Array, "b m"], codes: Array, t: Float[Array, ""]
    ) -> Float[Array, " b"]:
        """How wrong each row's prediction of its codes is at one time (Process.error)."""
        return self._at(self.process.error, params, text, codes, t)

    def _at(
        self,
        measure: Callable,
        params: Params,
        text: Int[Array, "b m"],
        codes: Array,
        t: Float[Array, ""],
    ) -> Float[Array, " b"]:
        """`measure` of each row at one time, under the expert that owns it. The noise belongs to
        the row's codes and the time, so that texts can be compared, wherever in a batch they
        stand."""
        keys = jax.vmap(
            lambda row: jax.random.fold_in(jax.random.key(0), jnp.sum(row * 1024).astype(jnp.int32))
        )(codes)
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, (t * 1e6).astype(jnp.int32))
        noisy = jax.vmap(lambda row, key: self.process.corrupt(row[None], t[None], key)[0])(
            codes, keys
        )
        states, pooled = self.encode_text(params, text)
        times = jnp.full((text.shape[0],), t)
        output = self.denoise(
            self.expert_params(params, expert_of(t, self.edges)), noisy, times, states, pooled
        )
        return jnp.mean(measure(output, codes, noisy, times), (1, 2))

    def levels(self, n: int) -> Float[Array, " n"]:
        """n increasing times, one from each of n equal shares of the training times (of the one
        expert's slice, where one is trained alone).
        """
        low, high = (
            (0.0, 1.0)
            if self.experts.only < 0
            else self.edges[self.experts.only : self.experts.only + 2]
        )
        return jnp.sort(self.process.draw_times(jax.random.key(0), n, float(low), float(high)))

    def agreement(self, params: Params, text: Int[Array, "b m"], codes: Any) -> Float[Array, " b"]:
        """Minus the mean training loss at LEVELS times."""

        def one(total: Array, t: Array) -> tuple[Array, None]:
            return total + self._at(self.process.loss, params, text, codes, t), None

        total, _ = jax.lax.scan(one, jnp.zeros((text.shape[0],)), self.levels(LEVELS))
        return -total / LEVELS
