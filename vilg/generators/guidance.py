"""The parts of sampling that generators share: the null condition, options by name, and the choice
of a token from logits (guidance, temperature, top-k, top-p)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vilg.config import as_type, option, require, suggestion
from vilg.types import END, PAD, UserError

T = TypeVar("T")


def with_options(defaults: T, options: Mapping[str, object], owner: str) -> T:
    """The controls `defaults` with `options` in place of their fields; `owner` names the generator
    in an error.

    Errors: UserError for an option that these controls do not have, or of the wrong type."""
    fields = {f.name: f for f in dataclasses.fields(defaults)}  # type: ignore[arg-type]
    for name, value in options.items():
        if name not in fields:
            raise UserError(
                f"{name}={value!r}: {owner} has no such option; {suggestion(name, fields)}it has"
                f" {', '.join(fields)}"
            )
    checked = {
        name: as_type(value, type(getattr(defaults, name)), name, signed=True)
        for name, value in options.items()
    }
    return dataclasses.replace(defaults, **checked)  # type: ignore[type-var]


def empty_prompt(text: Int[Array, "b m"]) -> Int[Array, "b m"]:
    """The null condition: the empty string's ids in each row's language (start, end, padding)."""
    empty = jnp.full_like(text, PAD).at[:, 1].set(END)
    return empty.at[:, 0].set(text[:, 0])


@dataclasses.dataclass(frozen=True)
class Controls:
    """The sampling options: guidance w (1: none), temperature (0: the likeliest token), top_k (0:
    all tokens), top_p (1: all tokens)."""

    guidance: float = option(1.0, "classifier-free guidance; 1 is none")
    temperature: float = option(1.0, "temperature of tokens or ids; 0 takes the likeliest")
    top_k: int = option(0, "keep the k likeliest tokens (0: all)")
    top_p: float = option(1.0, "keep the likeliest tokens of this mass (1: all)")

    def __post_init__(self) -> None:
        require(
            0 <= self.guidance < math.inf,
            "guidance",
            self.guidance,
            "must be 0 or more, and finite; 1 is no guidance",
        )
        require(
            0 <= self.temperature < math.inf,
            "temperature",
            self.temperature,
            "must be 0 (the likeliest token) or more, and finite",
        )
        require(self.top_k >= 0, "top_k", self.top_k, "must be 0 (all tokens) or more")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "must lie in (0, 1]; 1 keeps all tokens")


def guide(
    conditional: Float[Array, "b v"], unconditional: Float[Array, "b v"], w: float
) -> Float[Array, "b v"]:
    """Log-probabilities u + w (c - u). With w = 1 they are those of the conditional model."""
    c, u = jax.nn.log_softmax(conditional), jax.nn.log_softmax(unconditional)
    return u + w * (c - u)


def restrict(logits: Float[Array, "b v"], controls: Controls) -> Float[Array, "b v"]:
    """Logits divided by the temperature, with tokens outside top-k and top-p at -inf. The likeliest
    token always stays."""
    if controls.temperature > 0:
        logits = logits / controls.temperature
    if 0 < controls.top_k < logits.shape[-1]:
        kth = jax.lax.top_k(logits, controls.top_k)[0][:, -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    if controls.top_p < 1:
        ordered = -jnp.sort(-logits, axis=-1)
        probability = jax.nn.softmax(ordered)
        before = jnp.cumsum(probability, -1) - probability
        last = jnp.sum(before < controls.top_p, -1, keepdims=True) - 1
        logits = jnp.where(logits < jnp.take_along_axis(ordered, last, -1), -jnp.inf, logits)
    return logits


def choose(
    logits: Float[Array, "b v"], keys: Array, position: Array, controls: Controls
) -> Int[Array, " b"]:
    """One token for each row. Each row has its own key, so its token does not depend on the other
    rows of the batch."""
    if controls.temperature == 0:
        return jnp.argmax(logits, -1).astype(jnp.int32)
    logits = restrict(logits, controls)
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, position)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
