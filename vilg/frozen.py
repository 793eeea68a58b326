"""Frozen: a network that is part of no experiment and is not trained, such as a metric's feature
extractor, on all devices of this process.

The file is separate from program.py, which compiles the functions of experiments; only these two
files call jax.jit. A batch is split over the devices and the parameters are replicated: such
networks are small, and they read many pictures."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from vilg.parallel.layouts import parse_layout
from vilg.parallel.mesh import make_mesh, replicated
from vilg.types import Device, Params


class Frozen:
    """`apply(params, *arrays)`, compiled for batches with a fixed number of rows; smaller batches
    are padded with copies of their last row.

    Matrix products use full float32 on every device: bfloat16 on TPUs and TF32 on GPUs change
    features in the third digit."""

    def __init__(
        self,
        apply: Callable,
        params: Params,
        rows: int,
        devices: Sequence[Device] | None = None,
    ):
        devices = list(jax.local_devices() if devices is None else devices)
        layout = parse_layout("dp").bound({}, len(devices))
        mesh = make_mesh(layout, devices)
        self.rows = -(-rows // len(devices)) * len(devices)
        self.split = NamedSharding(mesh, layout.spec("compute", ("batch",), (0,), dict(mesh.shape)))
        self.params = jax.device_put(params, replicated(mesh))

        def call(params: Params, *arrays: object) -> Any:
            with jax.default_matmul_precision("float32"):
                return apply(params, *arrays)

        self.compiled = jax.jit(call, out_shardings=replicated(mesh))

    def __call__(self, *arrays: np.ndarray) -> Callable[[], Any]:
        """Starts the computation for a batch of at most `rows` rows, and returns a function that
        waits for its results: numpy arrays with as many rows as the batch."""
        n = len(arrays[0])
        padded = [
            np.concatenate([a, np.repeat(a[-1:], self.rows - n, 0)]) if n < self.rows else a
            for a in arrays
        ]
        pending = self.compiled(self.params, *jax.device_put(padded, self.split))
        return lambda: jax.tree.map(lambda x: np.asarray(x)[:n], pending)
