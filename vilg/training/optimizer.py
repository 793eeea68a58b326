"""Optimizers and schedules by name, from optax. To add one: a function and a line in its table."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree
from optax import contrib

from vilg.config import lookup, require

# logical axes along which the parameters of equal layers, or of experts, are stacked
STACKS = frozenset({"layers", "expert"})


def constant(o: "Optimizer", steps: int) -> optax.Schedule:
    """The learning rate, after the warm-up."""
    return optax.constant_schedule(o.learning_rate)


def cosine(o: "Optimizer", steps: int) -> optax.Schedule:
    """Cosine decay to end_ratio of the learning rate."""
    return optax.cosine_decay_schedule(o.learning_rate, steps, o.end_ratio)


def linear(o: "Optimizer", steps: int) -> optax.Schedule:
    """Linear decay to end_ratio of the learning rate."""
    return optax.linear_schedule(o.learning_rate, o.learning_rate * o.end_ratio, steps)


def inverse_sqrt(o: "Optimizer", steps: int) -> optax.Schedule:
    """learning_rate / sqrt(1 + step / warmup_steps)."""
    # optax evaluates the schedule during the warm-up too, at negative steps
    return lambda step: (
        o.learning_rate * (1 + jnp.maximum(step, 0) / max(1, o.warmup_steps)) ** -0.5
    )


def trapezoid(o: "Optimizer", steps: int) -> optax.Schedule:
    """Constant, then linear decay over the last `decay_share` of the steps."""
    flat = int(steps * (1 - o.decay_share))
    decay = optax.linear_schedule(
        o.learning_rate, o.learning_rate * o.end_ratio, max(1, steps - flat)
    )
    return optax.join_schedules([optax.constant_schedule(o.learning_rate), decay], [flat])


SCHEDULES: dict[str, Callable] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "inverse_sqrt": inverse_sqrt,
    "trapezoid": trapezoid,
}


def adamw(o: "Optimizer", rate: optax.Schedule, axes: PyTree) -> optax.GradientTransformation:
    """AdamW. Weight decay applies to matrices only; vectors that are stacked over layers or experts
    do not count as a matrix.
    """
    matrices = jax.tree.map(
        lambda a: len([x for x in a if x not in STACKS]) > 1, axes, is_leaf=_is_axes
    )
    return optax.adamw(
        rate, b1=o.b1, b2=o.b2, eps=o.eps, weight_decay=o.weight_decay, mask=matrices
    )


def adafactor(o: "Optimizer", rate: optax.Schedule, axes: PyTree) -> optax.GradientTransformation:
    """Adafactor without parameter scaling, so that the learning rate is the size of an update
    relative to 1 and not to the parameter.
    """
    return optax.adafactor(
        rate,
        multiply_by_parameter_scale=False,
        momentum=o.b1 or None,
        weight_decay_rate=o.weight_decay or None,
    )


def muon(o: "Optimizer", rate: optax.Schedule, axes: PyTree) -> optax.GradientTransformation:
    """Muon for hidden matrices and convolutions, AdamW (at `adam_ratio` of the rate) for
    embeddings, heads, norms and biases.
    """
    dimensions = jax.tree.map(muon_dimensions, axes, is_leaf=lambda x: isinstance(x, tuple))
    return contrib.muon(
        rate,
        beta=o.momentum,
        weight_decay=o.weight_decay,
        adam_b1=o.b1,
        adam_b2=o.b2,
        eps=o.eps,
        adam_learning_rate=lambda step: rate(step) * o.adam_ratio,
        muon_weight_dimension_numbers=dimensions,
        consistent_rms=0.2,
    )


OPTIMIZERS: dict[str, Callable] = {"adamw": adamw, "adafactor": adafactor, "muon": muon}


def muon_dimensions(axes: tuple[str | None, ...]) -> contrib.MuonDimensionNumbers | None:
    """Which axes of a weight are inputs and which are outputs, by their logical names. The result
    is None for embedding tables, heads and vectors, which Muon does not update.
    """
    names = [a for a in axes if a not in STACKS]
    if len(names) < 2 or {"vocab", "codebook", "length"} & set(names):
        return None
    index = {a: i for i, a in enumerate(axes) if a is not None}
    if "channels_in" in index and "channels_out" in index:
        taps = tuple(index[a] for a in ("rows", "columns") if a in index)
        return contrib.MuonDimensionNumbers((*taps, index["channels_in"]), (index["channels_out"],))
    outside = next((index[a] for a in ("embed", "code") if a in index), None)
    if outside is None or not ({"mlp", "heads"} & set(names)):
        return None
    inner = tuple(index[a] for a in ("mlp", "heads", "head_dim") if a in index)
    if outside < min(inner):
        return contrib.MuonDimensionNumbers((outside,), inner)
    return contrib.MuonDimensionNumbers(inner, (outside,))


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer section of an experiment. `learning_rate` is the peak; the schedule starts after
    `warmup_steps` of linear warm-up.
    """

    kind: str = "adamw"  # a name in OPTIMIZERS (vilg/training/optimizer.py)
    learning_rate: float = 1e-3  # largest learning rate, at the end of the warm-up
    schedule: str = "cosine"  # a name in SCHEDULES (vilg/training/optimizer.py), after the warm-up
    warmup_steps: int = 100  # updates in which the rate rises linearly
    end_ratio: float = 0.0  # last learning rate, as a share of the largest
    decay_share: float = 0.3  # share of the updates in which the schedule trapezoid decays
    clip: float = 1.0  # global gradient norm; 0 is none
    weight_decay: float = 0.0  # decoupled decay of matrices
    b1: float = 0.9  # decay of the gradient's mean
    b2: float = 0.99  # decay of the squared gradient's mean
    eps: float = 1e-8  # added to the root of the squared gradient's mean
    momentum: float = 0.95  # of Muon
    # learning rate of what Muon leaves to AdamW, as a share of learning_rate
    adam_ratio: float = 0.3
    # learning rate of parameters labelled "discriminator"; 0: the same as the others'
    discriminator_rate: float = 0.0
    discriminator_b1: float = 0.5  # b1 of parameters labelled "discriminator"

    def __post_init__(self) -> None:
        lookup(OPTIMIZERS, self.kind, "optimizer.kind")
        lookup(SCHEDULES, self.schedule, "optimizer.schedule")
        for field in ("b1", "b2", "momentum", "discriminator_b1"):
            require(
                getattr(self, field) < 1,
                f"optimizer.{field}",
                getattr(self, field),
                "must be below 1",
            )
        require(
            self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "must be above 0"
        )

    def rate(self, steps: int, peak: float | None = None) -> optax.Schedule:
        """Learning rate as a function of the update."""
        o = self if peak is None else dataclasses.replace(self, learning_rate=peak)
        after = SCHEDULES[o.schedule](o, max(1, steps - o.warmup_steps))
        warm = optax.linear_schedule(
            o.learning_rate / max(1, o.warmup_steps), o.learning_rate, max(1, o.warmup_steps - 1)
        )
        return optax.join_schedules([warm, after], [o.warmup_steps]) if o.warmup_steps else after

    def build(self, steps: int, axes: Any, labels: Any = None) -> optax.GradientTransformation:
        """The optax transformation. `axes` has a tuple of logical names a parameter; `labels`
        "generator", "discriminator" or "frozen" each.
        """
        if labels is None:
            return self._clipped(OPTIMIZERS[self.kind](self, self.rate(steps), axes))
        adversary = optax.adam(
            self.rate(steps, self.discriminator_rate or None), b1=self.discriminator_b1, b2=0.9
        )
        main = OPTIMIZERS[self.kind](self, self.rate(steps), _masked(axes, labels))
        kinds: dict[Any, optax.GradientTransformation] = {
            "generator": self._clipped(main),
            "discriminator": self._clipped(adversary),
        }
        if "frozen" in jax.tree.leaves(labels):
            kinds["frozen"] = optax.set_to_zero()
        return optax.partition(kinds, labels)

    def _clipped(
        self, transformation: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        return (
            optax.chain(optax.clip_by_global_norm(self.clip), transformation)
            if self.clip
            else transformation
        )


def _is_axes(x: object) -> bool:
    return isinstance(x, tuple) and not isinstance(x, optax.MaskedNode)


def _masked(axes: PyTree, labels: PyTree) -> PyTree:
    def one(label: str, axis: tuple) -> Any:
        return axis if label == "generator" else optax.MaskedNode()

    return jax.tree.map(one, labels, axes, is_leaf=_is_axes)
