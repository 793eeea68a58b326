"""Program: an Experiment on a mesh, with its abstract state, its shardings and its compiled
functions. Only this file and frozen.py call jax.jit (the successor of pjit).

Building a Program allocates no arrays, so `vilg plan` can build the very program that a run would
execute. The same train step runs under every layout: the layout decides in_shardings,
out_shardings, and the sharding constraints of gradients and activations."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import PyTree

from vilg.codecs.base import to_bytes, to_unit
from vilg.data.batch import batch_shapes
from vilg.data.example import Sizes
from vilg.experiment import Experiment
from vilg.fit import Fit
from vilg.parallel.axes import axes_of, is_axes, is_box, unbox
from vilg.parallel.constrain import placing
from vilg.parallel.layout import Layout
from vilg.parallel.mesh import make_mesh, replicated, resolver
from vilg.parallel.model_flops import traced_flops
from vilg.training.state import TrainState
from vilg.types import Batch, Device, Metrics, Params, Tokenizer, Trainable

HOST_MEMORY = "pinned_host"  # JAX's name for the memory of the host that devices can access


class Program:
    """An experiment on devices under a layout. `layout` replaces the experiment's layout."""

    def __init__(
        self,
        experiment: Experiment,
        devices: Sequence[Device] | None = None,
        layout: Layout | None = None,
    ):
        self.experiment = experiment
        self._calls: dict[tuple, Callable] = {}
        devices = list(jax.devices() if devices is None else devices)
        fit = Fit(experiment, len(devices), layout)
        self.layout, self.parameters, self.sharded_fraction, self.batch_shards = (
            fit.layout,
            fit.parameters,
            fit.sharded_fraction,
            fit.batch_shards,
        )
        self.boxed, self.axes = fit.boxed, axes_of(fit.boxed)
        self.mesh = make_mesh(self.layout, devices)
        self.sizes = fit.sizes
        self.replicated = replicated(self.mesh)
        labels = experiment.model.labels(unbox(self.boxed))
        self.optimizer = experiment.optimizer.build(experiment.training.steps, self.axes, labels)
        self.state_shape, self.state_sharding = self._state()
        self.batch_sharding = NamedSharding(self.mesh, fit.batch_spec)

    def _state(self) -> tuple[TrainState, TrainState]:
        """Shapes and shardings of the train state. Optimizer state keeps the boxes of the
        parameters that it mirrors.
        """
        model, training = self.experiment.model, self.experiment.training
        optimizer = jax.eval_shape(self.optimizer.init, self.boxed)
        statistics = jax.eval_shape(model.init_statistics)
        boxed = TrainState(
            step=jax.ShapeDtypeStruct((), jnp.int32),
            params=self.boxed,
            optimizer=optimizer,
            ema=self.boxed if training.ema else None,
            statistics=statistics,
        )
        # the layout's rules for each field of the state
        rules = TrainState(
            step="params",
            params="params",
            optimizer="optimizer",
            ema="optimizer",
            statistics="params",
        )

        def shardings_of(rules: str, tree: PyTree) -> PyTree:
            resolve = resolver(self.layout, self.mesh, rules)

            def sharding(leaf: PyTree) -> Any:
                if is_box(leaf) and isinstance(leaf.value, optax.MaskedNode):
                    return leaf.value  # optax masks parameters that another transformation owns
                if is_box(leaf) and len(leaf.names) == leaf.value.ndim and leaf.value.size > 1:
                    return resolve(tuple(leaf.names), leaf.value.shape)
                # scalars, counts, Adafactor's factored moments and its placeholders of size 1
                return self.replicated

            return jax.tree.map(sharding, tree, is_leaf=is_box)

        fields = [f.name for f in dataclasses.fields(TrainState)]
        shardings = TrainState(
            **{f: shardings_of(getattr(rules, f), getattr(boxed, f)) for f in fields}
        )
        if self.layout.offload:
            shape = unbox(boxed.optimizer)
            host = jax.tree.map(
                lambda x, s: s.with_memory_kind(HOST_MEMORY) if x.ndim else s,
                shape,
                shardings.optimizer,
            )
            shardings = dataclasses.replace(shardings, optimizer=host)
        return unbox(boxed), shardings

    def _traced(self, function: Callable, platform: str = "") -> Callable:
        """The function, traced with `constrain` resolving axes by this layout, for the mesh's
        platform or for `platform`."""
        resolve = resolver(self.layout, self.mesh, "compute")

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            with placing(resolve, platform or self.mesh.devices.flat[0].platform):
                return function(*args)

        return call

    def jit(self, function: Callable, **options: Any) -> Callable:
        """jax.jit of a function that is traced under this layout."""
        return jax.jit(self._traced(function), **options)

    # --- state ------------------------------------------------------------------------------------

    @functools.cached_property
    def init_state(self) -> Callable[[], TrainState]:
        """Compiled: the state before the first update, created with its sharding."""
        # Not self.jit: init traces the model on one example, which no batch axis divides, so
        # `constrain` must not apply.
        return jax.jit(self._init_state, out_shardings=self.state_sharding)

    def _init_state(self) -> TrainState:
        trainable, training = self.experiment.trainable, self.experiment.training
        params = unbox(trainable.init(jax.random.key(self.experiment.seed)))
        statistics = self.experiment.model.init_statistics()
        ema = jax.tree.map(jnp.copy, params) if training.ema else None
        return TrainState(jnp.int32(0), params, self.optimizer.init(params), ema, statistics)

    @functools.cached_property
    def with_code_vectors(self) -> Callable[[Params, Params], Params]:
        """Compiled: (a generator's parameters (donated), the codec's parameters) -> the generator's
        parameters with the codec's code vectors in them."""
        model, codec = self.experiment.model, cast(Tokenizer, self.experiment.codec)
        return self.jit(
            lambda params, frozen: model.with_code_vectors(params, codec.vectors(frozen)),
            out_shardings=self.state_sharding.params,
            donate_argnums=0,
        )

    @functools.cached_property
    def upcycle(self) -> Callable[[Params], Params]:
        """Compiled: the parameters of a smaller model of the same kind -> this model's."""
        return self.jit(self.experiment.model.upcycle, out_shardings=self.state_sharding.params)

    # --- training ---------------------------------------------------------------------------------

    @functools.cached_property
    def train_step(self) -> Callable[[TrainState, Batch, Params], tuple[TrainState, Metrics]]:
        """Compiled: one update. Arguments: state (donated), a global batch, the frozen codec's
        parameters (None when training it).
        """
        return self.jit(
            self.update,
            in_shardings=(self.state_sharding, self.batch_sharding, self.replicated),
            out_shardings=(self.state_sharding, self.replicated),
            donate_argnums=0,
        )

    def gradients(
        self, params: Params, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[Metrics, PyTree, Params]:
        """The metrics with "loss", metrics["observed"] of the loss, and the gradients of a batch,
        averaged over its microbatches."""
        trainable, accumulation = self.experiment.trainable, self.experiment.training.accumulation
        resolve = resolver(self.layout, self.mesh, "gradients")

        def of_microbatch(index: jax.Array, part: Batch) -> tuple[Params, Metrics, PyTree]:
            loss = functools.partial(
                trainable.loss, batch=part, key=jax.random.fold_in(key, index), step=step
            )
            (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params)
            metrics = dict(metrics)
            observed = metrics.pop("observed", None)
            grads = jax.tree.map(
                lambda a, g: jax.lax.with_sharding_constraint(g, resolve(a, g.shape)),
                self.axes,
                grads,
                is_leaf=is_axes,
            )
            return grads, {"loss": value, **metrics}, observed

        if accumulation == 1:
            grads, metrics, observed = of_microbatch(jnp.int32(0), batch)
            return metrics, jax.tree.map(lambda x: x[None], observed), grads

        def split(x: jax.Array) -> jax.Array:
            # Row i of the batch goes to microbatch i % accumulation, so that no row moves to
            # another device.
            parts = x.reshape(x.shape[0] // accumulation, accumulation, *x.shape[1:])
            return jnp.swapaxes(parts, 0, 1)

        parts = jax.tree.map(split, batch)
        zeros = jax.tree.map(jnp.zeros_like, params)
        zeros = jax.tree.map(
            lambda a, g: jax.lax.with_sharding_constraint(g, resolve(a, g.shape)),
            self.axes,
            zeros,
            is_leaf=is_axes,
        )

        def body(total: Params, item: tuple) -> tuple[Params, tuple]:
            grads, metrics, observed = of_microbatch(*item)
            return jax.tree.map(jnp.add, total, grads), (metrics, observed)

        total, (metrics, observed) = jax.lax.scan(body, zeros, (jnp.arange(accumulation), parts))
        grads = jax.tree.map(lambda g: g / accumulation, total)
        return jax.tree.map(lambda m: jnp.mean(m, 0), metrics), observed, grads

    def update(self, state: TrainState, batch: Batch, frozen: Params) -> tuple[TrainState, Metrics]:
        """One update as a traceable function. Its random numbers come from fold_in(seed, step), so
        a run is a function of (config, data, step)."""
        experiment, training = self.experiment, self.experiment.training
        key = jax.random.fold_in(jax.random.key(experiment.seed + 1), state.step)
        batch = experiment.prepare(frozen, batch)
        metrics, observed, grads = self.gradients(state.params, batch, key, state.step)
        optimizer = state.optimizer
        if self.layout.offload:
            optimizer = jax.device_put(
                optimizer,
                jax.tree.map(lambda s: s.with_memory_kind("device"), self.state_sharding.optimizer),
            )
        with jax.named_scope("optimizer"):
            updates, optimizer = self.optimizer.update(grads, optimizer, state.params)
            params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), state.params, updates)
        metrics |= {
            "gradient_norm": _norm(grads),
            "update_norm": _norm(updates),
            "learning_rate": self.learning_rate(state.step),
        }
        statistics = state.statistics
        key = jax.random.fold_in(key, 1)
        params, statistics, model_metrics = experiment.model.after_update(
            params, statistics, observed, key, state.step
        )
        metrics |= model_metrics
        ema = state.ema
        if training.ema:
            decay = jnp.minimum(training.ema, (1 + state.step) / (10 + state.step))
            ema = jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), ema, params)
        return TrainState(state.step + 1, params, optimizer, ema, statistics), metrics

    @functools.cached_property
    def model_flops(self) -> float:
        """FLOPs of an update's forward and backward pass over the whole batch, without
        recomputation: by the model's formula, or else three times the matrix products and
        convolutions of its loss."""
        trainable, size = self.experiment.trainable, self.experiment.training.batch_size
        formula = self.experiment.model.model_flops(size)
        if formula is not None:
            return formula
        loss = functools.partial(trainable.loss, key=jax.random.key(0), step=jnp.int32(0))
        batch = jax.eval_shape(self.experiment.prepare, self.frozen_shapes(), self.batch_shapes())
        return 3 * traced_flops(loss, unbox(self.boxed), batch)

    @functools.cached_property
    def update_flops(self) -> float:
        """FLOPs of an update, counted in its trace, on all devices together: the frozen codec, both
        passes with their recomputation, and the optimizer."""
        return self.flops(self.update, self.state_shape, self.batch_shapes(), self.frozen_shapes())

    def flops(self, function: Callable, *arguments: object) -> float:
        """FLOPs of the matrix products and convolutions of a function of abstract arguments,
        counted in its trace under this layout for a CPU: a trace does not show the products inside
        the kernels of other platforms."""
        return traced_flops(self._traced(function, "cpu"), *arguments)

    def learning_rate(self, step: jax.Array) -> jax.Array:
        """The learning rate of a step, by the optimizer's schedule."""
        return jnp.asarray(
            self.experiment.optimizer.rate(self.experiment.training.steps)(step), jnp.float32
        )

    @functools.cached_property
    def evaluate_loss(self) -> Callable[[Params, Batch, Params], Metrics]:
        """Compiled: the loss and its parts on a batch, with a fixed key."""

        def evaluate(params: Params, batch: Batch, frozen: Params) -> Metrics:
            batch = self.experiment.prepare(frozen, batch)
            loss, metrics = self.experiment.trainable.loss(
                params, batch, jax.random.key(0), jnp.int32(2**30)
            )
            return {"loss": loss, **{k: v for k, v in metrics.items() if k != "observed"}}

        return self.jit(evaluate, out_shardings=self.replicated)

    # --- sampling ---------------------------------------------------------------------------------

    @functools.cached_property
    def encode(self) -> Callable:
        """Compiled: uint8 images [b, H, W, 3] -> codes."""
        space = self.experiment.space
        return self.jit(
            lambda frozen, images: space.encode(frozen, to_unit(images)),
            out_shardings=self.replicated,
        )

    @functools.cached_property
    def decode(self) -> Callable:
        """Compiled: codes -> uint8 images."""
        space = self.experiment.space
        return self.jit(
            lambda frozen, codes: to_bytes(space.decode(frozen, codes)),
            out_shardings=self.replicated,
        )

    def call(self, method: str, *static: Hashable, of_pictures: bool = False) -> Callable:
        """A method of the model, compiled: (params, *arrays) -> arrays, replicated on every device.

        `static` are arguments that come after the arrays and are compiled in, such as the sampling
        options. With `of_pictures` the arguments are (params, frozen, pictures, *arrays): uint8
        pictures [b, H, W, 3], which the codec encodes in the same program. A method is compiled
        once for each set of static arguments."""
        key = (method, static, of_pictures)
        if key not in self._calls:
            function, space = getattr(self.experiment.model, method), self.experiment.space

            def of_arrays(params: Params, *arrays: object) -> Any:
                return function(params, *arrays, *static)

            def of_images(params: Params, frozen: Params, images: Any, *arrays: Any) -> Any:
                return function(params, space.encode(frozen, to_unit(images)), *arrays, *static)

            chosen = of_images if of_pictures else of_arrays
            self._calls[key] = self.jit(chosen, out_shardings=self.replicated)
        return self._calls[key]

    # --- plans ------------------------------------------------------------------------------------

    @functools.cached_property
    def abstract_state(self) -> TrainState:
        """Shapes and shardings of the train state, for a restore or a compilation."""
        return jax.tree.map(_abstract, self.state_shape, self.state_sharding)

    def batch_shapes(self) -> Batch:
        """The shapes of a global batch as the loader makes it."""
        experiment, codec = self.experiment, self.experiment.image_codec
        text_length = experiment.data.text.length
        sizes = Sizes(image_size=codec.image_size, text_length=text_length, grid=codec.grid)
        knowledge = experiment.data.knowledge is not None
        rows = experiment.training.batch_size
        return dict(batch_shapes(experiment.model.inputs, rows, sizes, knowledge))

    def frozen_shapes(self) -> Params:
        """The shapes of the frozen parameters that a generator's update reads; None where the run
        trains a codec."""
        experiment = self.experiment
        if experiment.codec is None:
            return None
        codec = unbox(jax.eval_shape(cast(Trainable, experiment.codec).init, jax.random.key(0)))
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), experiment.space.freeze(codec, None)
        )

    # --- data -------------------------------------------------------------------------------------

    def place(self, batch: Batch) -> Batch:
        """This process's rows of a host batch as global arrays on the mesh. Entries that are not
        arrays are left out."""
        arrays = {k: v for k, v in batch.items() if isinstance(v, np.ndarray)}
        return {
            k: jax.make_array_from_process_local_data(self.batch_sharding, v)
            for k, v in arrays.items()
        }


def _abstract(shape: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _norm(tree: PyTree) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)))
