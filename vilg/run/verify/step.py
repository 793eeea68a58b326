"""One step under a layout, and its comparison with the step of one device."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vilg.codecs.base import to_unit
from vilg.compiler.warnings import compiler_warnings
from vilg.experiment import Experiment, build_experiment
from vilg.fit import path_name
from vilg.overrides import values
from vilg.parallel.layout import Layout
from vilg.planning.costs import count
from vilg.planning.hlo_parser import parse
from vilg.program import Program, unbox
from vilg.run.verify.options import PATHS, with_options
from vilg.types import Device, Params

TOLERANCES = {
    "float32": {"loss": 1e-5, "gradients": 1e-5},
    "bfloat16": {"loss": 1e-3, "gradients": 2e-2},
}
FLOOR = 1e-3  # of the largest leaf's largest gradient: a smaller leaf is measured against that


class Inputs:
    """The inputs of every step, on the host: parameters of the model with scanned layers, and a
    batch with codes.
    """

    def __init__(self, config: Mapping[str, object]):
        scanned = build_experiment(with_options(config, {"scan": True}))
        initial = unbox(scanned.trainable.init(jax.random.key(scanned.seed)))
        self.params = jax.device_get(disturbed(initial))
        self.batch = batch_of(scanned)

    def params_of(self, experiment: Experiment) -> Params:
        """The parameters in the form of this experiment's model."""
        return self.params if is_scanned(experiment) else unrolled(experiment, self.params)


def is_scanned(experiment: Experiment) -> bool:
    """Whether the generator of the experiment scans its layers."""
    return any(values(experiment.config, PATHS["scan"]))


def unrolled(experiment: Experiment, params: Params) -> Params:
    """Parameters, or gradients, with the layers apart."""
    return experiment.model.unrolled(params)


def disturbed(params: Params) -> Params:
    """Parameters without zeros, which would hide what comes before them, and with unlike
    experts.
    """
    return jax.tree.map(
        lambda x: x + 0.02 * jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params
    )


def batch_of(experiment: Experiment) -> dict[str, np.ndarray]:
    """Random pictures and texts; for a generator the pictures' codes under its codec's initial
    parameters instead of the pictures.
    """
    rng = np.random.default_rng(0)
    size, side = experiment.training.batch_size, experiment.image_codec.image_size
    images = rng.integers(0, 256, (size, side, side, 3), dtype=np.uint8)
    if not experiment.model.reads_codes:
        return {"image": images}
    shape = (size, experiment.data.text.length)
    text = rng.integers(5, experiment.data.text.vocabulary, shape).astype(np.int32)
    codec: Any = experiment.image_codec
    frozen = experiment.space.freeze(unbox(codec.init(jax.random.key(1))), None)
    codes = np.asarray(experiment.space.encode(frozen, to_unit(jnp.asarray(images))))
    if codes.dtype == np.float32:
        codes = ((codes - codes.mean()) / max(float(codes.std()), 1e-6)).astype(np.float32)
    return {"text": text, "codes": codes}


class Step:
    """The loss, the gradients by name (layers apart), the collectives and the sharded share of one
    step under a layout.
    """

    def __init__(
        self, experiment: Experiment, inputs: Inputs, layout: Layout, devices: Sequence[Device]
    ):
        program = Program(experiment, devices, layout)
        params = jax.device_put(inputs.params_of(experiment), program.state_sharding.params)
        batch = {k: jax.device_put(v, program.batch_sharding) for k, v in inputs.batch.items()}
        lowered = program.jit(
            lambda p, b: program.gradients(p, b, jax.random.key(3), jnp.int32(5))
        ).lower(params, batch)
        with compiler_warnings() as self.warnings:
            compiled = lowered.compile()
        metrics, _, gradients = compiled(params, batch)
        gradients = jax.device_get(gradients)
        if is_scanned(experiment):
            gradients = unrolled(experiment, gradients)
        self.loss = float(metrics["loss"])
        self.gradients = {
            path_name(path): np.asarray(g, np.float32)
            for path, g in jax.tree_util.tree_flatten_with_path(gradients)[0]
        }
        self.mesh, self.sharded_fraction = program.sizes, program.sharded_fraction
        self.collectives = count(parse(compiled.as_text()), program.sizes).collective_table()


def compared(reference: Step, other: Step, dtype: str) -> dict[str, object]:
    """Errors and the status of a step against the reference.

    The error of gradients is the largest difference in a leaf (`worst_leaf` names it), divided by
    the larger of the leaf's own largest value and FLOOR x the largest leaf's. A step on several
    devices without collectives computes something else, and is "invalid"."""
    tolerances = TOLERANCES[dtype]
    largest = max(float(np.abs(g).max(initial=0)) for g in reference.gradients.values())
    errors = {}
    for name, expected in reference.gradients.items():
        scale = max(float(np.abs(expected).max(initial=0)), FLOOR * largest)
        gradient = other.gradients[name]
        finite = np.isfinite(gradient).all()
        difference = np.abs(expected - gradient).max(initial=0) if finite else np.inf
        errors[name] = float(difference / max(scale, 1e-30))
    worst = max(errors, key=lambda name: errors[name])
    loss = abs(other.loss - reference.loss) / max(abs(reference.loss), 1e-30)
    equal = loss <= tolerances["loss"] and errors[worst] <= tolerances["gradients"]
    wrong = (name for name, error in errors.items() if error > tolerances["gradients"])
    silent = not other.collectives and int(np.prod(list(other.mesh.values()))) > 1
    return {
        "loss_error": loss,
        "gradient_error": errors[worst],
        "worst_leaf": worst,
        "first_leaf": next(wrong, None),
        "status": "invalid" if silent else "equal" if equal else "differs",
    }
