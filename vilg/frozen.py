"""Frozen: a network that no experiment holds and nothing trains, such as a metric's feature
extractor, on all devices of this process.

Separate from program.py, which compiles what experiments are made of; these two are the only
callers of jax.jit. A batch is split over the devices and the parameters are whole on each: such
networks are small, and what they read is many pictures."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from vilg.parallel.layouts import parse_layout
from vilg.parallel.mesh import make_mesh, replicated
from vilg.types import Params


class Frozen:
    """`apply(params, *arrays)` compiled for batches of one number of rows; fewer are padded with
    copies of the last.

    Products of matrices are in full float32 on every device: TPUs' bfloat16 and GPUs' TF32 move
    features in the third digit."""

    def __init__(
        self,
        apply: Callable,
        params: Params,
        rows: int,
        devices: Sequence[jax.Device] | None = None,
    ):
        devices = list(jax.local_devices() if devices is None else devices)
        layout = parse_layout("dp").bound({}, len(devices))
        mesh = make_mesh(layout, devices)
        self.rows = -(-rows // len(devices)) * len(devices)
        self.split = NamedSharding(mesh, layout.spec("compute", ("batch",), (0,), dict(mesh.shape)))
        self.params = jax.device_put(params, replicated(mesh))

        def call(params: Params, *arrays: Any) -> Any:
            with jax.default_matmul_precision("float32"):
                return apply(params, *arrays)

        self.compiled = jax.jit(call, out_shardings=replicated(mesh))

    def __call__(self, *arrays: np.ndarray) -> Callable[[], Any]:
        """Starts on a batch of at most `rows` rows; the function that waits for its results, numpy
        arrays of as many rows.
        """
        n = len(arrays[0])
        padded = [
            np.concatenate([a, np.repeat(a[-1:], self.rows - n, 0)]) if n < self.rows else a
            for a in arrays
        ]
        pending = self.compiled(self.params, *jax.device_put(padded, self.split))
        return lambda: jax.tree.map(lambda x: np.asarray(x)[:n], pending)
